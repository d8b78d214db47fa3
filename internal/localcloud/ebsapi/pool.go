package ebsapi

import (
	"io"
	"sync"
	"time"
)

// A pool keeps what is used often open between uses.
type pool[T io.Closer] struct {
	mu    sync.Mutex
	items map[string]*pooled[T]
}

type pooled[T io.Closer] struct {
	once  sync.Once
	value T
	err   error
	uses  int
	gone  bool // not in the pool any more
	idle  *time.Timer
}

func newPool[T io.Closer]() *pool[T] { return &pool[T]{items: map[string]*pooled[T]{}} }

// use returns the item under a key, and opens it when it is not. The caller
// calls done once.
func (p *pool[T]) use(key string, open func() (T, error)) (value T, done func(), err error) {
	p.mu.Lock()
	it := p.items[key]
	if it == nil {
		it = &pooled[T]{}
		p.items[key] = it
	}
	it.uses++
	if it.idle != nil {
		it.idle.Stop()
		it.idle = nil
	}
	p.mu.Unlock()
	it.once.Do(func() { it.value, it.err = open() })
	if it.err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.items[key] == it {
			delete(p.items, key)
		}
		return it.value, func() {}, it.err
	}
	return it.value, func() { p.release(key, it) }, nil
}

func (p *pool[T]) release(key string, it *pooled[T]) {
	p.mu.Lock()
	it.uses--
	last := it.uses == 0
	if last && !it.gone {
		it.idle = time.AfterFunc(idleTime, func() { p.expire(key, it) })
	}
	shut := last && it.gone
	p.mu.Unlock()
	if shut {
		_ = it.value.Close() // what was written is in place already
	}
}

func (p *pool[T]) expire(key string, it *pooled[T]) {
	p.mu.Lock()
	shut := it.uses == 0 && !it.gone
	if shut {
		it.gone = true
		delete(p.items, key)
	}
	p.mu.Unlock()
	if shut {
		_ = it.value.Close() // as above
	}
}

// drop takes an item out of the pool; it is closed when nobody uses it.
func (p *pool[T]) drop(key string) {
	p.mu.Lock()
	it := p.items[key]
	shut := false
	if it != nil {
		delete(p.items, key)
		it.gone = true
		if it.idle != nil {
			it.idle.Stop()
		}
		shut = it.uses == 0
	}
	p.mu.Unlock()
	if shut {
		_ = it.value.Close() // as above
	}
}
