package registry

import (
	"fmt"
	"strings"
)

// filePrefix begins the name of a reference to the content of a file: ${file:NAME}.
const filePrefix = "file:"

// expand replaces the references in s by what value returns for their names. $${ stands for ${. It returns an error that says what is
// wrong with the form of a reference; what value cannot name is for value to note.
func expand(s string, value func(name string) string) (string, error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "${")
		if !found {
			b.WriteString(s)
			return b.String(), nil
		}
		if plain, escaped := strings.CutSuffix(before, "$"); escaped {
			b.WriteString(plain)
			b.WriteString("${")
			s = after
			continue
		}
		name, rest, closed := strings.Cut(after, "}")
		switch {
		case !closed:
			return "", fmt.Errorf("a reference begins with ${ and does not end, expected ${NAME} or ${file:NAME}; $${ stands for ${")
		case !validReference(name):
			return "", fmt.Errorf("${%s} is not a reference, expected ${NAME} or ${file:NAME}; $${ stands for ${", clip(name))
		}
		b.WriteString(before)
		b.WriteString(value(name))
		s = rest
	}
}

// validReference reports whether name is that of an environment variable, or file: and the name of a file.
func validReference(name string) bool {
	if file, is := strings.CutPrefix(name, filePrefix); is {
		return file != "" && len(file) <= 512 && !strings.ContainsFunc(file, func(r rune) bool { return r < ' ' || r == '$' || r == '{' })
	}
	if name == "" || len(name) > 128 || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// refers reports whether s has a reference.
func refers(s string) bool {
	found := false
	_, err := expand(s, func(string) string { found = true; return "" })
	return found && err == nil
}

// clip shortens what somebody wrote for a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
