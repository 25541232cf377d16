package main

// #cgo LDFLAGS: -lrnnfast
// #include <rnnfast/rnnfast.h>
// #include <stdlib.h>
import "C"

import (
	"errors"
	"runtime"
	"unsafe"
)

// Model is a language model. It is immutable: goroutines share it.
type Model struct{ handle *C.rnnfast_model }

// State is the state of one stream; one goroutine uses it at a time.
type State struct {
	model  *Model
	handle *C.rnnfast_state
}

// Sampler draws tokens from logits.
type Sampler struct{ handle *C.rnnfast_sampler }

// The message of a failed call belongs to its thread, so the goroutine stays there until it has been read.
func checked(call func() C.rnnfast_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if call() == C.RNNFAST_OK {
		return nil
	}
	return errors.New(C.GoString(C.rnnfast_last_error()))
}

// Load reads a model from a file; Free releases it.
func Load(path string) (*Model, error) {
	if C.rnnfast_abi_version() != C.RNNFAST_ABI_VERSION {
		return nil, errors.New("librnnfast has another ABI than this program")
	}
	text := C.CString(path)
	defer C.free(unsafe.Pointer(text))
	model := &Model{}
	return model, checked(func() C.rnnfast_status {
		return C.rnnfast_model_load(text, C.RNNFAST_AS_STORED, &model.handle)
	})
}

func (m *Model) Free() { C.rnnfast_model_free(m.handle) }

func (m *Model) VocabSize() (int, error) {
	var size C.size_t
	err := checked(func() C.rnnfast_status { return C.rnnfast_model_vocab_size(m.handle, &size) })
	return int(size), err
}

// Encode returns the ids of a text.
func (m *Model) Encode(text string) ([]int32, error) {
	bytes := C.CString(text)
	defer C.free(unsafe.Pointer(bytes))
	ids := make([]int32, len(text)+1) // a text has at most as many tokens as bytes
	count := C.size_t(len(ids))
	err := checked(func() C.rnnfast_status {
		return C.rnnfast_encode(m.handle, bytes, C.size_t(len(text)), (*C.int32_t)(&ids[0]), &count)
	})
	return ids[:count], err
}

// Decode returns the text of one token.
func (m *Model) Decode(token int32) (string, error) {
	text := make([]C.char, 256)
	size := C.size_t(len(text))
	id := C.int32_t(token)
	err := checked(func() C.rnnfast_status { return C.rnnfast_decode(m.handle, &id, 1, &text[0], &size) })
	if err != nil {
		return "", err
	}
	return C.GoString(&text[0]), nil
}

// NewState returns a state before any token; Free releases it.
func (m *Model) NewState() (*State, error) {
	state := &State{model: m}
	return state, checked(func() C.rnnfast_status { return C.rnnfast_state_new(m.handle, &state.handle) })
}

func (s *State) Free() { C.rnnfast_state_free(s.handle) }

// Step reads one token; logits receives those of the next one.
func (s *State) Step(token int32, logits []float32) error {
	return checked(func() C.rnnfast_status {
		return C.rnnfast_step(s.model.handle, C.int32_t(token), s.handle, (*C.float)(&logits[0]), C.size_t(len(logits)))
	})
}

// NewSampler returns a sampler; Free releases it.
func NewSampler(temperature float64, seed uint64) (*Sampler, error) {
	sampler := &Sampler{}
	return sampler, checked(func() C.rnnfast_status {
		return C.rnnfast_sampler_new(C.double(temperature), 0, 1, C.uint64_t(seed), &sampler.handle)
	})
}

func (s *Sampler) Free() { C.rnnfast_sampler_free(s.handle) }

func (s *Sampler) Sample(logits []float32) (int32, error) {
	var token C.int32_t
	err := checked(func() C.rnnfast_status {
		return C.rnnfast_sample(s.handle, (*C.float)(&logits[0]), C.size_t(len(logits)), &token)
	})
	return int32(token), err
}
