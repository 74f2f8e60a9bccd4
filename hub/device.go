package hub

import (
	"container/heap"
	"errors"
	"slices"
	"time"

	"quorumhub/hub/hubpb"
)

// Limits of programs that wait for somebody to log in for them. They are part of the fold.
const (
	// MaxDevices bounds the programs that wait, and MaxNetworkDevices those from one network.
	MaxDevices        = 10_000
	MaxNetworkDevices = 16
	// maxDeviceText bounds what is known of a program, and maxDeviceTicket what its tokens say.
	maxDeviceText, maxDeviceTicket = 256, 16 << 10
)

// DeviceID identifies a program that waits: the SHA-256 of its device code.
type DeviceID [32]byte

// Device is a program without a browser that wants a session (RFC 8628).
type Device struct {
	ID       DeviceID
	UserCode string // without its dash
	Client   string
	From     string // who asks, for people
	At       time.Time
	Until    time.Time
	// Decided: somebody has decided about it. Unless they denied it there is a session for it, and Ticket is JSON of what its tokens say.
	Decided, Denied bool
	Session         SessionID
	Ticket          []byte
}

// device is a Device in the state.
type device struct {
	id       DeviceID
	row      *hubpb.DeviceRow
	position int // in the heap
}

type devices struct {
	byID     map[DeviceID]*device
	byCode   map[string]*device
	networks map[string][]*device // of each, at most MaxNetworkDevices
	expiry   deviceHeap
}

func newDevices() devices {
	return devices{byID: map[DeviceID]*device{}, byCode: map[string]*device{}, networks: map[string][]*device{}}
}

func (a *devices) insert(d *device) {
	a.byID[d.id], a.byCode[d.row.UserCode] = d, d
	a.networks[d.row.Network] = append(a.networks[d.row.Network], d)
	heap.Push(&a.expiry, d)
}

func (a *devices) remove(d *device) {
	delete(a.byID, d.id)
	delete(a.byCode, d.row.UserCode)
	left := slices.DeleteFunc(a.networks[d.row.Network], func(o *device) bool { return o == d })
	if a.networks[d.row.Network] = left; len(left) == 0 {
		delete(a.networks, d.row.Network)
	}
	heap.Remove(&a.expiry, d.position)
}

// crowded reports whether as many from a network wait at a time as may.
func (a *devices) crowded(network string, now int64) bool {
	waiting := 0
	for _, d := range a.networks[network] {
		if d.row.Until > now {
			waiting++
		}
	}
	return waiting >= MaxNetworkDevices
}

// requestDevice records a program that waits. A user code in use is OutcomeStale, a network with too many of them OutcomeQuota.
func (s *State) requestDevice(e *hubpb.DeviceRequested) Result {
	for h := &s.devices.expiry; len(*h) > 0 && (*h)[0].row.Until <= s.meta.Now; {
		s.touchName(TableDevice, string((*h)[0].id[:]))
		s.devices.remove((*h)[0])
	}
	id, ok := deviceID(e.Device)
	switch {
	case !ok || e.UserCode == "" || max(len(e.UserCode), len(e.Client), len(e.From), len(e.Network)) > maxDeviceText || e.Until <= s.meta.Now || s.devices.byID[id] != nil || s.devices.byCode[e.UserCode] != nil:
		return Result{Outcome: OutcomeStale}
	case len(s.devices.networks[e.Network]) >= MaxNetworkDevices:
		return Result{Outcome: OutcomeQuota}
	case len(s.devices.byID) >= MaxDevices:
		return Result{Outcome: OutcomeFull}
	}
	s.devices.insert(&device{id: id, row: &hubpb.DeviceRow{UserCode: e.UserCode, Client: e.Client, From: e.From, Network: e.Network, Until: e.Until, At: s.meta.Now}})
	s.touchName(TableDevice, string(id[:]))
	return Result{}
}

// decideDevice records a decision. A program that is unknown, has waited too long, or was decided about is OutcomeNotFound.
func (s *State) decideDevice(e *hubpb.DeviceDecided) Result {
	id, ok := deviceID(e.Device)
	d := s.devices.byID[id]
	if !ok || d == nil || len(e.Ticket) > maxDeviceTicket || d.row.Decided || d.row.Until <= s.meta.Now {
		return Result{Outcome: OutcomeNotFound}
	}
	if session, ok := sessionID(e.Session); !e.Denied && (!ok || s.sessions.find(session) == nil) {
		return Result{Outcome: OutcomeNotFound}
	}
	d.row.Decided, d.row.Denied = true, e.Denied
	if !e.Denied {
		d.row.Session, d.row.Ticket = e.Session, e.Ticket
	}
	s.touchName(TableDevice, string(id[:]))
	return Result{}
}

// Device returns a program that waits, or was decided about.
func (s *State) Device(id DeviceID) (Device, bool) { return s.devices.byID[id].view() }

// DeviceByUserCode is Device by the code that people type.
func (s *State) DeviceByUserCode(code string) (Device, bool) { return s.devices.byCode[code].view() }

func (d *device) view() (Device, bool) {
	if d == nil {
		return Device{}, false
	}
	r := d.row
	out := Device{ID: d.id, UserCode: r.UserCode, Client: r.Client, From: r.From, At: timeOf(r.At), Until: timeOf(r.Until),
		Decided: r.Decided, Denied: r.Denied, Ticket: r.Ticket}
	out.Session, _ = sessionID(r.Session)
	return out, true
}

func (s *State) loadDevice(name string, r *hubpb.DeviceRow) error {
	id, ok := deviceID([]byte(name))
	if !ok {
		return errors.New("its name is no device's ID")
	}
	s.devices.insert(&device{id: id, row: r})
	return nil
}

func deviceID(b []byte) (id DeviceID, ok bool) {
	if len(b) != len(id) {
		return id, false
	}
	return DeviceID(b), true
}

// deviceHeap is a min-heap by expiry. Those that expire at the same time are removed together, so their relative order does not matter.
type deviceHeap []*device

func (h deviceHeap) Len() int           { return len(h) }
func (h deviceHeap) Less(i, j int) bool { return h[i].row.Until < h[j].row.Until }
func (h deviceHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].position, h[j].position = i, j
}

func (h *deviceHeap) Push(x any) {
	d := x.(*device)
	d.position = len(*h)
	*h = append(*h, d)
}

func (h *deviceHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
