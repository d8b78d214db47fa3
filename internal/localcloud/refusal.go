package localcloud

import (
	"errors"

	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

// Refusal turns an [Error] in err's chain into one of the protocols.
func Refusal(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return &awswire.Error{Code: e.Code, Message: e.Message, Status: e.Status}
	}
	return err
}
