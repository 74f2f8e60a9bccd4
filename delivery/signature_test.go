package delivery_test

import (
	"testing"

	"quorumhub/delivery"
)

// TestSignatureKnownAnswers compares with the output of openssl dgst -hmac.
func TestSignatureKnownAnswers(t *testing.T) {
	secret, body := []byte("s\u00e9cret"), []byte("{\"a\":\"\u00e9\"}\n")
	for _, want := range []string{
		"sha1=b801bee7ce1f369e7e70d1870ff61b1369fa87dc",
		"sha256=8c70758b725da141c9d815d09b0c80ebd67a294db17cd618ced3dfcc14473133",
		"sha384=1f58709a2e2291b355e36b7883cad5240979127958ea3d8092f84212d01512ca2559399395894042be3d7356bef107cf",
		"sha512=aa13f0f345117f24b31bf64d67706bd78c0de22270bb284b66a719315bb0e359840c2f738e93b4a01a81bc7e33704f6315bdcc590021766c4730a32992bf3fd5",
	} {
		var method string
		for i := range want {
			if want[i] == '=' {
				method = want[:i]
			}
		}
		s, err := delivery.NewSigner(method, secret)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // the reused key schedule must not carry anything over
			if got := s.Sign(body); got != want {
				t.Errorf("Sign = %s, want %s", got, want)
			}
			s.Sign([]byte("something else"))
		}
		if !delivery.Verify(want, secret, body) {
			t.Errorf("%s: not verified", method)
		}
		for _, bad := range []string{want + "0", want[:len(want)-1], "md5" + want[len(method):], want[len(method)+1:], ""} {
			if delivery.Verify(bad, secret, body) {
				t.Errorf("%q verified", bad)
			}
		}
		if delivery.Verify(want, secret, body[:len(body)-1]) || delivery.Verify(want, []byte("other"), body) {
			t.Errorf("%s: verified with another body or secret", method)
		}
	}
	if _, err := delivery.Sign("md5", secret, body); err == nil {
		t.Error("md5 accepted")
	}
}

func TestSignAllocatesOnlyTheResult(t *testing.T) {
	s, err := delivery.NewSigner(delivery.SHA256, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 1024)
	if n := testing.AllocsPerRun(100, func() { s.Sign(body) }); n > 1 {
		t.Errorf("%v allocations a signature, want at most 1", n)
	}
}

func BenchmarkSign(b *testing.B) {
	s, err := delivery.NewSigner(delivery.SHA256, []byte("0123456789abcdef"))
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		s.Sign(body)
	}
}
