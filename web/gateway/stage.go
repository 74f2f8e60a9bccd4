package gateway

// stage is one step of the pipeline. A stage has no state of its own beyond the Gateway's, and is safe for concurrent use.
type stage interface {
	name() string
	// explain says what the stage does with the requests of a version, in one line; empty: nothing.
	explain(v *version) string
	// do takes an exchange one step on. After an error the stages up to finish are skipped.
	do(x *exchange) error
}

// stages is the pipeline, in order. The caller is known before anything about versions or parameters is told; permission comes before
// the claim of a nonce, so that nobody fills the memory of nonces without it; and the claim comes before all work.
func (g *Gateway) stages() []stage {
	return []stage{
		limitStage{},
		correlateStage{},
		matchStage{},
		authenticateStage{},
		senderStage{},
		quotaStage{},
		authorizeStage{},
		replayStage{},
		validateStage{},
		decryptStage{},
		enrichStage{},
		tokenStage{},
		routeStage{},
		callStage{},
		releaseStage{},
		convertStage{},
		encryptStage{},
		respondStage{},
	}
}

// finish are the stages that every exchange ends with.
func (g *Gateway) finish() []stage {
	return []stage{errorStage{}, logStage{}}
}
