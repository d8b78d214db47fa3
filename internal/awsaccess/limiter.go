package awsaccess

import (
	"context"
	"strings"
	"sync"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"

	"github.com/ingot-build/ingot/internal/poll"
)

// The buckets of EC2's request throttling that an account begins with
// (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html).
const (
	readBurst, readRate   = 100, 20
	writeBurst, writeRate = 50, 5
	slowest               = 0.5 // requests a second, however often it is throttled
)

// A bucket is a token bucket that learns: a throttled request empties it and
// halves its rate, which then grows back. Others may use the same account.
type bucket struct {
	mu          sync.Mutex
	burst, full float64
	tokens      float64
	rate        float64 // tokens a second now
	last        time.Time
	cut         time.Time // when the rate was last halved
}

func newBucket(burst, rate float64) *bucket {
	return &bucket{burst: burst, full: rate, tokens: burst, rate: rate}
}

// take reserves one token and returns how long to wait for it.
func (b *bucket) take(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now)
	b.tokens--
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}

func (b *bucket) refill(now time.Time) {
	if !b.last.IsZero() {
		since := now.Sub(b.last).Seconds()
		b.tokens = min(b.burst, b.tokens+since*b.rate)
		b.rate = min(b.full, b.rate*(1+since/30)) // back after half a minute or so
	}
	b.last = now
}

// slow is told of a throttled request. Several at once count as one.
func (b *bucket) slow(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now)
	b.tokens = min(b.tokens, 0)
	if now.Sub(b.cut) >= time.Second {
		b.rate, b.cut = max(slowest, b.rate/2), now
	}
}

// A limiter is shared by all clients of one account and region.
type limiter struct{ read, write *bucket }

func newLimiter() *limiter {
	return &limiter{newBucket(readBurst, readRate), newBucket(writeBurst, writeRate)}
}

func (l *limiter) of(operation string) *bucket {
	for _, p := range []string{"Describe", "Get", "List", "Search"} {
		if strings.HasPrefix(operation, p) {
			return l.read
		}
	}
	return l.write
}

// add makes every attempt of a client wait its turn.
func (l *limiter) add(stack *middleware.Stack) error {
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("IngotLimiter", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (out middleware.FinalizeOutput, meta middleware.Metadata, err error) {
		b := l.of(awsmiddleware.GetOperationName(ctx))
		if d := b.take(time.Now()); d > 0 {
			if err := poll.Sleep(ctx, d); err != nil {
				return out, meta, err
			}
		}
		out, meta, err = next.HandleFinalize(ctx, in)
		if IsThrottled(err) {
			b.slow(time.Now())
		}
		return out, meta, err
	}), "Retry", middleware.After)
}
