package delivery_test

import (
	"fmt"

	"quorumhub/delivery"
)

// A subscriber verifies the X-Hub-Signature of a delivery with the hub.secret it subscribed with.
func ExampleVerify() {
	secret, body := []byte("a secret only the two of us know"), []byte(`{"temperature":21.5}`)
	header, err := delivery.Sign(delivery.SHA256, secret, body)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(header)
	fmt.Println(delivery.Verify(header, secret, body))
	fmt.Println(delivery.Verify(header, secret, []byte(`{"temperature":99.9}`)))
	// Output:
	// sha256=97ecbfe42eb1a4b62eeb9b4d7532c31c75d4486446d9fd20d3c6c59ea441cc46
	// true
	// false
}
