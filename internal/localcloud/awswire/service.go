package awswire

import "net/http"

// QueryHandler serves the operations of a query protocol other than EC2's.
// refusal turns an error of the service into an [*Error].
func QueryHandler(ops Operations, namespace string, refusal func(error) error) func(http.ResponseWriter, *Call) {
	return func(w http.ResponseWriter, c *Call) {
		out, err := dispatch(ops, c)
		if err == nil {
			err = WriteQuery(w, c, namespace, out)
		}
		if err != nil {
			WriteQueryError(w, c.RequestID, refusal(err))
		}
	}
}

// JSONHandler serves the operations of a JSON protocol.
func JSONHandler(ops Operations, refusal func(error) error) func(http.ResponseWriter, *Call) {
	return func(w http.ResponseWriter, c *Call) {
		out, err := dispatch(ops, c)
		if err == nil {
			err = WriteJSON(w, c, http.StatusOK, out)
		}
		if err != nil {
			WriteJSONError(w, c.RequestID, refusal(err))
		}
	}
}

func dispatch(ops Operations, c *Call) (any, error) {
	op, ok := ops[c.Action]
	if !ok {
		return nil, Errorf("InvalidAction", "The action %q is not valid for this web service: the local cloud does not have it", c.Action)
	}
	return op(c.HTTP.Context(), c)
}
