package sse_test

import (
	"fmt"
	"net/http/httptest"
	"time"

	"quorumhub/web/sse"
)

func ExampleWriter() {
	w := httptest.NewRecorder()
	out := sse.NewWriter(w, 10*time.Second)
	if err := out.Event("", "1-7", map[string]any{"offset": 7}); err != nil {
		panic(err)
	}
	if err := out.Event("end", "", map[string]any{"reason": "stopping"}); err != nil {
		panic(err)
	}
	fmt.Print(w.Body)
	// Output:
	// id: 1-7
	// data: {"offset":7}
	//
	// event: end
	// data: {"reason":"stopping"}
}
