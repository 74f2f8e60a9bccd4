package sequence_test

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/auth/sequence"
)

// badge asks for the number on somebody's badge.
type badge struct{}

func (badge) Name() string                { return "desk" }
func (badge) Label() string               { return "Badge" }
func (badge) Ready(context.Context) error { return nil }

func (badge) Start(context.Context, *sequence.Start) (*sequence.Interaction, []byte, error) {
	return &sequence.Interaction{Form: &sequence.Form{Authenticator: "desk", Label: "Badge", Fields: []sequence.Field{{Name: "number", Label: "Number", Secret: true}}}}, nil, nil
}

func (badge) Finish(_ context.Context, f *sequence.Finish) (*sequence.Identity, error) {
	if f.Form.Get("number") != "4711" {
		return nil, &auth.RefusalError{Method: auth.MethodSession, Reason: "no such badge"}
	}
	return &sequence.Identity{Principal: &auth.Principal{Method: auth.MethodSession, ID: "local/ann", Authority: "desk", Subject: "ann"}, Name: "Ann"}, nil
}

// remembered are the states that came back. The hub's own are in its replicated log.
type remembered map[[32]byte]bool

func (r remembered) ClaimLogin(_ context.Context, state [32]byte, _ string, _ time.Time) (bool, error) {
	fresh := !r[state]
	r[state] = true
	return fresh, nil
}

// A program asks who somebody is without any HTTP: it shows the form that the step asks for, and gives back what was filled in.
func ExampleProcessor() {
	settings, err := auth.ParseSettings([]byte(`
identity_providers: [{name: desk, kind: local}]
sequences: {door: {steps: [{strategy: single, of: [desk], retries: 1}]}}
service_providers: [{name: lab, protocol: pages, sequence: door}]
`))
	if err != nil {
		panic(err)
	}
	box, err := keyring.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		panic(err)
	}
	p, err := sequence.New(sequence.Options{Settings: settings, Gate: auth.NewGate(settings), Interactive: map[string]sequence.Interactive{"desk": badge{}},
		Box: box, Claims: remembered{}})
	if err != nil {
		panic(err)
	}

	ctx := context.Background()
	res := p.Process(ctx, &sequence.Request{Provider: "lab", Interactive: true, Return: "/door/3"})
	fmt.Println(res.Status, "asks for", res.Next.Form.Fields[0].Label)
	for _, number := range []string{"1234", "4711"} {
		res = p.Process(ctx, &sequence.Request{Callback: true, Interactive: true, Context: res.Context,
			Form: url.Values{sequence.FieldState: {res.State}, "number": {number}}})
		if res.Status == sequence.Incomplete {
			fmt.Println("wrong; tries left:", res.Next.Form.Left)
		}
	}
	fmt.Println(res.Status, res.Principal.ID, res.Return)
	// Output:
	// incomplete asks for Number
	// wrong; tries left: 1
	// authenticated local/ann /door/3
}
