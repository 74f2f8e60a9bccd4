package top

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Terminal is where the figures are shown.
type Terminal struct {
	Out io.Writer
	// Keys yields what is typed; nil: nothing.
	Keys <-chan byte
	// Size returns the width and height in characters.
	Size     func() (width, height int)
	Coloured bool
}

// The alternate screen, without a cursor, keeps what was on the terminal before (xterm's control sequences).
const (
	enter = "\x1b[?1049h\x1b[?25l"
	leave = "\x1b[?25h\x1b[?1049l"
	home  = "\x1b[H"
	toEnd = "\x1b[K\r\n"
	erase = "\x1b[J"
)

const (
	ctrlC  = 3
	escape = 27
)

// Run shows what read returns, again every so often, until ctx ends or somebody quits. Errors of read are shown, too, as long as it
// worked once.
func (t *Terminal) Run(ctx context.Context, every time.Duration, by Order, read func(context.Context) (*Figures, error)) error {
	f, err := read(ctx)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(t.Out, enter); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(t.Out, leave) }() // whoever reads it is gone if it fails
	tick := time.NewTicker(every)
	defer tick.Stop()
	for trouble := error(nil); ; {
		if err := t.draw(f, by, trouble); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case key, ok := <-t.Keys:
			if !ok || key == 'q' || key == ctrlC || key == escape {
				return nil
			}
			for _, o := range Orders() {
				if o.Key == key {
					by = o
				}
			}
			continue
		case <-tick.C:
		}
		var next *Figures
		if next, trouble = read(ctx); trouble == nil {
			f = next
		} else if ctx.Err() != nil {
			return nil
		}
	}
}

func (t *Terminal) draw(f *Figures, by Order, trouble error) error {
	width, height := t.Size()
	lines := fit(Page(f, by, t.Coloured), width, height-2)
	var names []string
	for _, o := range Orders() {
		names = append(names, string(o.Key)+" "+o.Name)
	}
	last := "q quit   sorted by " + by.Name + " (" + strings.Join(names, ", ") + ")"
	if trouble != nil {
		last = fmt.Sprintf("as of %s: %v", f.At.Local().Format("15:04:05"), strings.ReplaceAll(trouble.Error(), "\n", " "))
	}
	var b strings.Builder
	b.WriteString(home)
	for _, l := range lines {
		b.WriteString(l + toEnd)
	}
	b.WriteString(toEnd + cut(last, width) + "\x1b[K" + erase)
	_, err := io.WriteString(t.Out, b.String())
	return err
}
