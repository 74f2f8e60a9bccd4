package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"quorumhub/configs"
	"quorumhub/durable"
)

// places is what only one process can have: the addresses it listens on.
type places struct {
	http    net.Listener
	cluster net.Listener // nil without peers
}

// takePlaces opens the listeners. It returns those that it could open even if there is an error.
func takePlaces(ctx context.Context, cfg *configs.Config) (p places, err error) {
	if p.http, err = listenHTTP(ctx, &cfg.HTTP); err != nil {
		return p, fmt.Errorf("http.addr: %w", err)
	}
	if len(cfg.Cluster.Peers) > 0 {
		if p.cluster, err = net.Listen("tcp", cfg.Cluster.Addr); err != nil {
			return p, fmt.Errorf("cluster.addr: %w", err)
		}
	}
	return p, nil
}

func (p *places) close() (err error) {
	for _, l := range []net.Listener{p.http, p.cluster} {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	return err
}

// errBusy means that another process has a socket.
var errBusy = errors.New("in use by another process")

func isBusy(err error) bool { return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, errBusy) }

// checkPlaces finds out whether a node could take its addresses and its directories, and leaves them as they are. If the data
// directory and the address are both in use, this very node is running, which is only a warning: its configuration may be checked
// before it is read again.
func checkPlaces(ctx context.Context, cfg *configs.Config) (warnings []string, err error) {
	inUse, err := dataDirInUse(cfg.DataDir)
	if err == nil && !inUse {
		err = checkPath("data_dir", cfg.DataDir)
	}
	if err == nil && cfg.PIDFile != "" {
		dir := filepath.Dir(cfg.PIDFile)
		if _, err = os.Stat(dir); err != nil {
			err = fmt.Errorf("pid_file: %w", err)
		} else {
			err = checkPath("pid_file", dir)
		}
	}
	if err == nil && cfg.Secrets.KeyFile != "" && cfg.Secrets.Key == "" && !exists(cfg.Secrets.KeyFile) {
		err = checkPath("secrets.key_file", filepath.Dir(cfg.Secrets.KeyFile)) // the first start creates it
	}
	var taken error
	if cfg.HTTP.Addr != configs.SystemdAddr { // only systemd passes that one
		var p places
		p, taken = takePlaces(ctx, cfg)
		taken = errors.Join(taken, p.close())
	}
	switch {
	case inUse && (isBusy(taken) || cfg.HTTP.Addr == configs.SystemdAddr || strings.HasSuffix(cfg.HTTP.Addr, ":0")):
		return []string{"a node with this configuration is running (data_dir " + cfg.DataDir + " and its address are in use); a second one could not start"}, err
	case inUse:
		err = errors.Join(inUseError(cfg.DataDir), err)
	}
	return nil, errors.Join(err, taken)
}

func checkPath(key, dir string) error {
	if err := checkWritable(dir); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// checkWritable returns an error if this process cannot make files in a directory, or cannot make the directory. It tries, because what
// the modes say is not all: file systems are mounted read-only, and root is refused nothing by modes.
func checkWritable(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			continue
		case err != nil:
			return err
		case !info.IsDir():
			return &fs.PathError{Op: "use", Path: at, Err: errors.New("it is not a directory")}
		}
		trial, err := os.MkdirTemp(at, ".quorumhub-check-")
		if at := (*fs.PathError)(nil); errors.As(err, &at) {
			return &fs.PathError{Op: "write to", Path: filepath.Dir(at.Path), Err: at.Err}
		}
		if err != nil {
			return err
		}
		return os.Remove(trial)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// dataDirInUse reports whether another process has locked the data directory. It creates nothing.
func dataDirInUse(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("data_dir: %w", err)
	}
	defer f.Close()
	if err := durable.TryLock(f); errors.Is(err, durable.ErrLocked) {
		return true, nil
	} else if err != nil {
		return false, fmt.Errorf("data_dir: %w", err)
	}
	return false, nil
}

func inUseError(dir string) error {
	return fmt.Errorf("data_dir %s is in use by another quorumhub; stop it, or choose another data_dir", dir)
}
