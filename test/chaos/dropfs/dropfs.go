// Package dropfs is a file system that loses unsynced data when the power fails.
//
// It passes everything on to a directory and remembers, page by page, what a sync has made durable. Fail
// resets the directory to that state plus a random part of the rest: each page written but not synced
// survives or not, as on a disk interrupted in its work. Names behave as in a journaling file system: a sync
// of anything makes all earlier name changes durable, and without one they may survive or not.
//
// It needs root and /dev/fuse. Its tests take a second or two: go test ./test/chaos/dropfs.
package dropfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const pageSize = 4096

// Disk is one file system. Its methods are safe for concurrent use, except Fail and Close.
type Disk struct {
	// Dir is the mount point.
	Dir string
	// SyncTakes is the longest duration of a sync. A process killed meanwhile has not synced.
	SyncTakes time.Duration
	live      string // the directory with the current content

	server *fuse.Server

	mu      sync.Mutex
	rand    *rand.Rand
	files   map[uint64]*image // by inode number in live
	names   map[string]entry  // the durable ones, by path in live
	renamed bool              // names have changed since the last sync
	syncs   int
	dropped int
}

// image is a file as of its last sync.
type image struct {
	size  int64
	pages map[int64][]byte
	dirty map[int64]bool // written since the last sync
}

type entry struct {
	mode fs.FileMode
	file *image // nil for a directory
}

func newImage() *image { return &image{pages: map[int64][]byte{}, dirty: map[int64]bool{}} }

// New mounts an empty disk in dir, which it uses exclusively. It needs root and /dev/fuse.
func New(dir string, r *rand.Rand) (*Disk, error) {
	d := &Disk{Dir: filepath.Join(dir, "disk"), live: filepath.Join(dir, "live"), rand: r, files: map[uint64]*image{}, names: map[string]entry{}}
	if err := errors.Join(os.MkdirAll(d.Dir, 0o700), os.MkdirAll(d.live, 0o700)); err != nil {
		return nil, err
	}
	return d, d.mount()
}

func (d *Disk) mount() error {
	var st syscall.Stat_t
	if err := syscall.Stat(d.live, &st); err != nil {
		return fmt.Errorf("stat %s: %w", d.live, err)
	}
	root := &fusefs.LoopbackRoot{Path: d.live, Dev: st.Dev,
		//nolint:staticcheck // the replacement wraps an existing node; here the node itself has a different type
		NewNode: func(r *fusefs.LoopbackRoot, _ *fusefs.Inode, _ string, _ *syscall.Stat_t) fusefs.InodeEmbedder {
			return &node{LoopbackNode: fusefs.LoopbackNode{RootData: r}, disk: d}
		}}
	top := &node{LoopbackNode: fusefs.LoopbackNode{RootData: root}, disk: d}
	root.RootNode = top
	o := &fusefs.Options{MountOptions: fuse.MountOptions{FsName: "dropfs", Name: "dropfs", DirectMountStrict: true}}
	var err error
	d.server, err = fusefs.Mount(d.Dir, top, o)
	return err
}

// Close unmounts the disk.
func (d *Disk) Close() error {
	if err := d.server.Unmount(); err != nil {
		return errors.Join(err, syscall.Unmount(d.Dir, syscall.MNT_DETACH))
	}
	return nil
}

// Fail simulates a power failure and remounts the disk. No file may be open.
func (d *Disk) Fail() error {
	if err := d.server.Unmount(); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.renamed && d.rand.IntN(2) == 0 {
		if err := d.commitNames(); err != nil {
			return err
		}
	}
	if err := d.survive(); err != nil {
		return err
	}
	if err := os.RemoveAll(d.live); err != nil {
		return err
	}
	if err := d.restore(); err != nil {
		return err
	}
	return d.mount()
}

// survive makes a random part of the unsynced pages durable.
func (d *Disk) survive() error {
	return filepath.Walk(d.live, func(path string, info fs.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		img := d.files[inode(info)]
		if img == nil {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for page := range img.dirty {
			// The size is that of the last sync, so anything truncated or appended since is undone.
			if (page+1)*pageSize <= min(img.size, info.Size()) && d.rand.IntN(2) == 0 {
				img.take(f, page)
			} else {
				d.dropped++
			}
		}
		return nil
	})
}

// take makes the current content of a page durable.
func (i *image) take(f *os.File, page int64) {
	b := make([]byte, pageSize)
	n, _ := f.ReadAt(b, page*pageSize) // beyond the end of the file the page is zero
	if n == 0 {
		delete(i.pages, page)
		return
	}
	i.pages[page] = b
}

// restore writes the durable files into an empty directory.
func (d *Disk) restore() error {
	if err := os.MkdirAll(d.live, 0o700); err != nil {
		return err
	}
	for path, e := range d.names {
		if e.file == nil {
			if err := os.MkdirAll(path, e.mode.Perm()); err != nil {
				return err
			}
		}
	}
	written := map[*image]string{}
	for path, e := range d.names {
		if e.file == nil {
			continue
		}
		if first, ok := written[e.file]; ok {
			if err := os.Link(first, path); err != nil {
				return err
			}
			continue
		}
		written[e.file] = path
		if err := e.file.write(path, e.mode); err != nil {
			return err
		}
	}
	d.files = map[uint64]*image{}
	for img, path := range written {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		clear(img.dirty)
		d.files[inode(info)] = img
	}
	d.renamed = false
	return nil
}

func (i *image) write(path string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode.Perm())
	if err != nil {
		return err
	}
	for page, b := range i.pages {
		if _, err := f.WriteAt(b, page*pageSize); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Truncate(i.size), f.Close())
}

func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// commitNames makes the current names durable. The caller holds mu.
func (d *Disk) commitNames() error {
	d.names = map[string]entry{}
	d.renamed = false
	return filepath.Walk(d.live, func(path string, info fs.FileInfo, err error) error {
		if err != nil || path == d.live {
			return err
		}
		e := entry{mode: info.Mode()}
		if !info.IsDir() {
			e.file = d.files[inode(info)]
			if e.file == nil {
				e.file = newImage()
				d.files[inode(info)] = e.file
			}
		}
		d.names[path] = e
		return nil
	})
}

// sync makes a file and all names durable. The caller holds mu.
func (d *Disk) sync(f *os.File) syscall.Errno {
	d.syncs++
	info, err := f.Stat()
	if err != nil {
		return fusefs.ToErrno(err)
	}
	if img := d.files[inode(info)]; img != nil {
		for page := range img.dirty {
			img.take(f, page)
		}
		clear(img.dirty)
		img.size = info.Size()
		for page := range img.pages {
			if page*pageSize >= img.size {
				delete(img.pages, page)
			}
		}
	}
	return d.settleNames()
}

func (d *Disk) settleNames() syscall.Errno {
	if d.renamed {
		return fusefs.ToErrno(d.commitNames())
	}
	return 0
}

// touched records that a part of a file was changed; to < 0 means to its end. The caller holds mu.
func (d *Disk) touched(ino uint64, from, to int64) {
	img := d.files[ino]
	if img == nil {
		img = newImage()
		d.files[ino] = img
	}
	if to < 0 {
		to = max(img.size, from)
	}
	for page := from / pageSize; page*pageSize < to; page++ {
		img.dirty[page] = true
	}
}

type node struct {
	fusefs.LoopbackNode
	disk *Disk
}

// names runs an operation that changes names.
func (n *node) names(do func() syscall.Errno) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.disk.renamed = true
	return do()
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (child *fusefs.Inode, fh fusefs.FileHandle, fuseFlags uint32, errno syscall.Errno) {
	errno = n.names(func() syscall.Errno {
		var errno syscall.Errno
		child, fh, fuseFlags, errno = n.LoopbackNode.Create(ctx, name, flags, mode, out)
		if errno == 0 {
			n.disk.files[out.Ino] = newImage() // the inode number may be that of a deleted file
		}
		return errno
	})
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return child, n.wrap(fh), fuseFlags, 0
}

func (n *node) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	fh, fuseFlags, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	f := n.wrap(fh)
	if flags&syscall.O_TRUNC != 0 {
		n.disk.mu.Lock()
		n.disk.touched(f.ino, 0, -1)
		n.disk.mu.Unlock()
	}
	return f, fuseFlags, 0
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (child *fusefs.Inode, errno syscall.Errno) {
	errno = n.names(func() syscall.Errno {
		var errno syscall.Errno
		child, errno = n.LoopbackNode.Mkdir(ctx, name, mode, out)
		return errno
	})
	return child, errno
}

func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	return n.names(func() syscall.Errno { return n.LoopbackNode.Rmdir(ctx, name) })
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.names(func() syscall.Errno { return n.LoopbackNode.Unlink(ctx, name) })
}

func (n *node) Rename(ctx context.Context, name string, newParent fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	return n.names(func() syscall.Errno { return n.LoopbackNode.Rename(ctx, name, newParent, newName, flags) })
}

func (n *node) Link(ctx context.Context, target fusefs.InodeEmbedder, name string, out *fuse.EntryOut) (child *fusefs.Inode, errno syscall.Errno) {
	errno = n.names(func() syscall.Errno {
		var errno syscall.Errno
		child, errno = n.LoopbackNode.Link(ctx, target, name, out)
		return errno
	})
	return child, errno
}

func (n *node) Setattr(ctx context.Context, fh fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	errno := n.LoopbackNode.Setattr(ctx, fh, in, out)
	if size, ok := in.GetSize(); ok && errno == 0 {
		n.disk.touched(out.Ino, int64(size), -1)
	}
	return errno
}

// Fsync is called for directories, and for files through their handle.
func (n *node) Fsync(ctx context.Context, fh fusefs.FileHandle, flags uint32) syscall.Errno {
	if f, ok := fh.(*file); ok {
		return f.Fsync(ctx, flags)
	}
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.disk.syncs++
	return n.disk.settleNames()
}

// OpendirHandle wraps the directory to observe its syncs.
func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	fh, fuseFlags, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	inner, ok := fh.(directory)
	if !ok {
		return nil, 0, syscall.ENOTSUP
	}
	return &dir{inner, n.disk}, fuseFlags, 0
}

type directory interface {
	fusefs.FileReaddirenter
	fusefs.FileSeekdirer
	fusefs.FileReleasedirer
}

type dir struct {
	directory
	disk *Disk
}

func (d *dir) Fsyncdir(context.Context, uint32) syscall.Errno {
	d.disk.mu.Lock()
	defer d.disk.mu.Unlock()
	d.disk.syncs++
	return d.disk.settleNames()
}

// file is an open file.
type file struct {
	*fusefs.LoopbackFile
	disk *Disk
	ino  uint64
	read *os.File // the same file for reading; nil if it could not be opened, in which case a sync fails
}

func (n *node) wrap(fh fusefs.FileHandle) *file {
	inner, ok := fh.(*fusefs.LoopbackFile)
	if !ok {
		panic(fmt.Sprintf("unexpected file type %T", fh))
	}
	f := &file{LoopbackFile: inner, disk: n.disk}
	fd, _ := inner.PassthroughFd()
	if read, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
		f.read = read
		if info, err := read.Stat(); err == nil {
			f.ino = inode(info)
		}
	}
	return f
}

// PassthroughFd keeps the kernel from bypassing this file system.
func (f *file) PassthroughFd() (int, bool) { return 0, false }

func (f *file) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n, errno := f.LoopbackFile.Write(ctx, data, off)
	f.disk.touched(f.ino, off, off+int64(n))
	return n, errno
}

func (f *file) Writev(ctx context.Context, data [][]byte, off int64) (uint32, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n, errno := f.LoopbackFile.Writev(ctx, data, off)
	f.disk.touched(f.ino, off, off+int64(n))
	return n, errno
}

func (f *file) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.touched(f.ino, int64(off), int64(off+size))
	return f.LoopbackFile.Allocate(ctx, off, size, mode)
}

func (f *file) Fsync(ctx context.Context, _ uint32) syscall.Errno {
	if most := f.disk.SyncTakes; most > 0 {
		timer := time.NewTimer(rand.N(most))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return syscall.EINTR
		}
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.read == nil {
		return syscall.EIO
	}
	return f.disk.sync(f.read)
}

func (f *file) Release(ctx context.Context) syscall.Errno {
	if f.read != nil {
		f.read.Close()
	}
	return f.LoopbackFile.Release(ctx)
}
