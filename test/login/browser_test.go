package login_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"quorumhub/test/hubtest"
)

// browser is a browser with cookies of its own, and tab one of its tabs.
type browser struct {
	t   *testing.T
	ctx context.Context
}

// chromium starts Debian's chromium; the test is skipped without it.
func chromium(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing; test/deps.sh installs it")
		}
		t.Skip("chromium is missing; test/deps.sh installs it")
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)...)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewContext(ctx)
	t.Cleanup(end)
	b := &browser{t, ctx}
	b.do(chromedp.EmulateViewport(800, 900))
	return b
}

// other returns a tab of another browser: it has none of the cookies.
func (b *browser) other() *browser {
	b.t.Helper()
	ctx, end := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	b.t.Cleanup(end)
	o := &browser{b.t, ctx}
	o.do(chromedp.EmulateViewport(800, 900))
	return o
}

// tab returns another tab of the browser.
func (b *browser) tab() *browser {
	b.t.Helper()
	ctx, end := chromedp.NewContext(b.ctx)
	b.t.Cleanup(end)
	o := &browser{b.t, ctx}
	o.do(chromedp.EmulateViewport(800, 900))
	return o
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatalf("the browser: %v", err)
	}
}

func run[T any](b *browser, a chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, hubtest.Patience)
	defer cancel()
	out, err := chromedp.Run(ctx, a)
	if err != nil {
		b.t.Fatalf("the browser: %v", err)
	}
	return out
}

// open goes to a URL, and through all redirects.
func (b *browser) open(url string) *browser {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
	return b
}

// try is open for a page that may not be there yet.
func (b *browser) try(url string) error { return chromedp.Do(b.ctx, chromedp.Navigate(url)) }

// fill types into a field.
func (b *browser) fill(selector, text string) *browser {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, hubtest.Patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS(selector), text)); err != nil {
		b.t.Fatalf("type into %s: %v\n%s", selector, err, b.text())
	}
	return b
}

// press clicks on something, and waits for the page that follows.
func (b *browser) press(selector string) *browser {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, hubtest.Patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		b.t.Fatalf("press %s at %s: %v\n%s", selector, b.at(), err, b.text())
	}
	return b
}

// button is the selector of the button with a value.
func button(value string) string { return fmt.Sprintf("button[value=%q]", value) }

// submit is the selector of the first button.
const submit = "main form button"

func (b *browser) at() string { return run(b, chromedp.Location()) }

// text returns what a person reads on the page.
func (b *browser) text() string {
	return run(b, chromedp.Evaluate[string]("document.body ? document.body.innerText : ''"))
}

// shows fails unless the page has all of the texts.
func (b *browser) shows(texts ...string) *browser {
	b.t.Helper()
	got := b.text()
	for _, text := range texts {
		if !strings.Contains(got, text) {
			b.t.Fatalf("at %s: no %q on the page:\n%s", b.at(), text, got)
		}
	}
	return b
}

// shots is where screenshots are kept; QUORUMHUB_SCREENSHOTS names another directory.
func shots(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("QUORUMHUB_SCREENSHOTS"); dir != "" {
		return dir
	}
	return t.ArtifactDir()
}

// shot keeps pictures of the page: wide and narrow, light and dark. It fails if the page is wider than a small telephone, or if its style
// is not in force.
func (b *browser) shot(name string) *browser {
	b.t.Helper()
	for _, look := range []struct {
		name, scheme string
		width        int64
	}{{"light", "light", 800}, {"dark-360", "dark", 360}} {
		b.do(chromedp.EmulateViewport(look.width, 900), func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			return chromedp.Void{}, emulateScheme(ctx, look.scheme)
		})
		if over := run(b, chromedp.Evaluate[int]("document.documentElement.scrollWidth - document.documentElement.clientWidth")); over > 0 {
			b.t.Errorf("%s: the page is %d pixels wider than a screen of %d", name, over, look.width)
		}
		picture := run(b, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(shots(b.t), name+"-"+look.name+".png"), picture, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	if font := run(b, chromedp.Evaluate[string]("getComputedStyle(document.querySelector('main')).borderRadius + getComputedStyle(document.querySelector('h1')).lineHeight")); font == "" || strings.HasSuffix(font, "normal") {
		b.t.Errorf("%s: the style is not in force (%s)", name, font)
	}
	b.do(chromedp.EmulateViewport(800, 900))
	return b
}

func emulateScheme(ctx context.Context, scheme string) error {
	name := "prefers-color-scheme"
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: name, Value: scheme}}})
	return err
}

// wait lets a page that sends itself on arrive.
func (b *browser) wait(path string) *browser {
	b.t.Helper()
	hubtest.EventuallyWithin(b.t, 20*time.Second, "the browser arrives at "+path, func() error {
		if at := b.at(); !strings.Contains(at, path) {
			return fmt.Errorf("it is at %s:\n%s", at, b.text())
		}
		return nil
	})
	return b
}

// evaluate runs a script in the page, and waits for what it promises.
func evaluate(script string) chromedp.Action[string] {
	return chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise)
}

// back presses the browser's back button.
func (b *browser) back() *browser {
	b.t.Helper()
	b.do(chromedp.NavigateBack())
	return b
}
