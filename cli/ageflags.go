package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"

	"quorumhub/cli/exit"
)

// ageIntro is how a file encrypted with age begins.
const ageIntro = "age-encryption.org/v1\n"

// recipients are those who can read what is encrypted for the flags given; none: nothing is encrypted.
func recipients(keys []string, passphraseFile string) ([]age.Recipient, error) {
	if len(keys) > 0 && passphraseFile != "" {
		return nil, exit.Usagef("--recipient and --passphrase-file exclude each other")
	}
	if passphraseFile != "" {
		phrase, err := passphrase(passphraseFile)
		if err != nil {
			return nil, err
		}
		r, err := age.NewScryptRecipient(phrase)
		if err != nil {
			return nil, fmt.Errorf("--passphrase-file: %w", err)
		}
		return []age.Recipient{r}, nil
	}
	var out []age.Recipient
	for _, key := range keys {
		var r []age.Recipient
		var err error
		if strings.HasPrefix(key, "ssh-") {
			var one age.Recipient
			one, err = agessh.ParseRecipient(key)
			r = append(r, one)
		} else {
			r, err = age.ParseRecipients(strings.NewReader(key))
		}
		if err != nil {
			return nil, exit.Usagef("--recipient: got %q, expected a public key of age (age1...) or of ssh (ssh-ed25519 ..., ssh-rsa ...): %v", key, err)
		}
		out = append(out, r...)
	}
	return out, nil
}

// passphrase is the first line of a file.
func passphrase(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--passphrase-file: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", exit.Usagef("--passphrase-file: the first line of %s is empty; expected the passphrase there", file)
	}
	return line, nil
}

// decryptFlags are the flags of commands that read a backup.
type decryptFlags struct {
	Identity       []string `short:"i" help:"A file with the private key (of age or ssh) for an encrypted backup. May be repeated." placeholder:"FILE"`
	PassphraseFile string   `help:"A file whose first line is the passphrase of an encrypted backup." placeholder:"FILE"`
}

// open returns what a backup file holds, decrypted when it is encrypted. It may be called again for the same file.
func (f *decryptFlags) open(file *os.File) (io.Reader, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(file, 256<<10)
	start, err := in.Peek(len(armor.Header))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var encrypted io.Reader = in
	switch {
	case bytes.HasPrefix(start, []byte(ageIntro)):
	case bytes.HasPrefix(start, []byte(armor.Header)):
		encrypted = armor.NewReader(in)
	default:
		return in, nil
	}
	keys, err := f.identities()
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, exit.Usagef("%s is encrypted; expected --identity or --passphrase-file to open it", file.Name())
	}
	out, err := age.Decrypt(encrypted, keys...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, fmt.Errorf("%s is encrypted for another key than the one given", file.Name())
	case err != nil:
		return nil, fmt.Errorf("decrypt %s: %w", file.Name(), err)
	}
	return out, nil
}

func (f *decryptFlags) identities() ([]age.Identity, error) {
	var out []age.Identity
	for _, name := range f.Identity {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--identity: %w", err)
		}
		if bytes.HasPrefix(data, []byte("-----BEGIN ")) {
			key, err := agessh.ParseIdentity(data)
			if err != nil {
				return nil, fmt.Errorf("--identity: %s is no private key of ssh without a passphrase: %w", name, err)
			}
			out = append(out, key)
			continue
		}
		keys, err := age.ParseIdentities(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("--identity: %s holds no private key of age: %w", name, err)
		}
		out = append(out, keys...)
	}
	if f.PassphraseFile != "" {
		phrase, err := passphrase(f.PassphraseFile)
		if err != nil {
			return nil, err
		}
		key, err := age.NewScryptIdentity(phrase)
		if err != nil {
			return nil, fmt.Errorf("--passphrase-file: %w", err)
		}
		out = append(out, key)
	}
	return out, nil
}
