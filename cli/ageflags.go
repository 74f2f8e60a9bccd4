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

// ageIntro is the first line of a file encrypted with age.
const ageIntro = "age-encryption.org/v1\n"

// recipients returns whom to encrypt for, according to the flags; none means no encryption.
func recipients(keys []string, passphraseFile string) ([]age.Recipient, error) {
	if len(keys) > 0 && passphraseFile != "" {
		return nil, exit.Usagef("--recipient and --passphrase-file are mutually exclusive")
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
			return nil, exit.Usagef("--recipient: got %q, expected an age public key (age1...) or an SSH public key (ssh-ed25519 ..., ssh-rsa ...): %v", key, err)
		}
		out = append(out, r...)
	}
	return out, nil
}

// passphrase reads the first line of a file.
func passphrase(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--passphrase-file: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", exit.Usagef("--passphrase-file: the first line of %s is empty, expected the passphrase", file)
	}
	return line, nil
}

// decryptFlags are shared by the commands that read a backup.
type decryptFlags struct {
	Identity       []string `short:"i" help:"A file with the private key (age or SSH) of an encrypted backup. Repeatable." placeholder:"FILE"`
	PassphraseFile string   `help:"A file whose first line is the passphrase of an encrypted backup." placeholder:"FILE"`
}

// open returns the contents of a backup file from its start, decrypted if necessary. It may be called again for the same file.
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
		return nil, exit.Usagef("%s is encrypted; expected --identity or --passphrase-file", file.Name())
	}
	out, err := age.Decrypt(encrypted, keys...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, fmt.Errorf("%s is not encrypted for the given key", file.Name())
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
				return nil, fmt.Errorf("--identity: %s is not an SSH private key without a passphrase: %w", name, err)
			}
			out = append(out, key)
			continue
		}
		keys, err := age.ParseIdentities(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("--identity: %s contains no age private key: %w", name, err)
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
