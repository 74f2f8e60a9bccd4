package raftlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"quorumhub/hub"
)

// Report describes the log file of a stopped node.
type Report struct {
	Identity    *Identity // nil: no node.json
	File        string
	Bytes       int64 // size of the file
	First, Last uint64
	Entries     uint64         // found between First and Last
	Commands    uint64         // of these, intact entries that carry events
	Events      map[string]int // their events by kind
	Newest      time.Time      // leader's time in the newest such entry
	Term        uint64
	Problems    []error // what is damaged or missing; empty: nothing
}

// Inspect reads the log in a stopped node's data directory and verifies every entry, without changing anything. It returns
// an error if there is nothing to inspect: no log in dir, or a running node.
func Inspect(dir string) (r *Report, err error) {
	path := filepath.Join(dir, logFile)
	r = &Report{File: path, Events: map[string]int{}}
	if r.Identity, err = ReadIdentity(dir); err != nil {
		r.Problems = append(r.Problems, err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", dir, err)
	}
	r.Bytes = fi.Size()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			r.Problems = append(r.Problems, damaged(path, fmt.Errorf("%v", p)))
		}
	}()
	const lockTimeout = 2 * time.Second
	if err := checkLogFile(path, fi.Size(), lockTimeout); err != nil {
		if errors.Is(err, berrors.ErrTimeout) {
			return nil, err
		}
		r.Problems = append(r.Problems, err)
		return r, nil
	}
	db, err := raftboltdb.New(raftboltdb.Options{Path: path, MsgpackUseNewTimeFormat: true,
		BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: lockTimeout}})
	if err != nil {
		return nil, openError(path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return r, r.read(db)
}

func (r *Report) read(db *raftboltdb.BoltStore) (err error) {
	log := chunks{db}
	if r.First, err = log.FirstIndex(); err != nil {
		return fmt.Errorf("read %s: %w", r.File, err)
	}
	if r.Last, err = log.LastIndex(); err != nil {
		return fmt.Errorf("read %s: %w", r.File, err)
	}
	for _, err := range checkValues(db) {
		r.Problems = append(r.Problems, fmt.Errorf("%s: %w", r.File, err))
	}
	for i := r.First; i > 0 && i <= r.Last; i++ {
		var l raft.Log
		if err := log.GetLog(i, &l); err != nil {
			r.Problems = append(r.Problems, fmt.Errorf("%s: entry %d: %w", r.File, i, err))
			continue
		}
		r.Entries++
		r.Term = l.Term
		if err := checkEntry(i, &l); err != nil {
			r.Problems = append(r.Problems, fmt.Errorf("%s: %w", r.File, err))
			continue
		}
		if l.Type != raft.LogCommand {
			continue
		}
		e, err := hub.DecodeEntry(l.Data)
		if err != nil {
			r.Problems = append(r.Problems, fmt.Errorf("%s: entry %d: %w", r.File, i, err))
			continue
		}
		r.Commands++
		r.Newest = time.Unix(0, e.Time).UTC()
		for _, b := range e.Batches {
			for _, p := range b.Proposals {
				for _, ev := range p.Events {
					r.Events[hub.EventName(ev)]++
				}
			}
		}
	}
	return nil
}
