package login_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"quorumhub/web/login/screen"
)

// TestScreens: pages look as they should in a real browser, in the dark and on a small telephone, too.
func TestScreens(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		(&screen.Page{Title: "Log in", Alert: "You could not be logged in. Please try again.", Text: []string{"How do you want to log in?"},
			Facts: []screen.Fact{{Name: "Principal", Value: "issuer:corp/0123456789012345678901234567890123456789012345678901234567890123456789"}},
			Forms: []screen.Form{{Action: "/x", Fields: []screen.Field{{Name: "a", Label: "User name", Hint: "as on your badge"}}, Buttons: []screen.Button{{Text: "Company account"}, {Text: "Other", Quiet: true}}},
				{Action: "/y", Title: "Another session of yours", Facts: []screen.Fact{{Name: "With", Value: "Chrome on Linux"}}, Buttons: []screen.Button{{Text: "End", Quiet: true}}}},
			Links: []screen.Link{{URL: "/", Text: "Start again"}}, Small: "The hub's log has this under c0ffee."}).Write(w)
	}))
	defer s.Close()
	b := chromium(t).open(s.URL)
	b.shows("Log in", "as on your badge", "Start again")
	b.shot("everything")
}
