// Package ec2api speaks the query protocol of EC2, version 2016-11-15.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/
package ec2api

import (
	"net/http"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/compute"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/network"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/storage"
)

const version = "2016-11-15"

// Operations are all actions of the API.
func Operations(c *localcloud.Cloud) awswire.Operations {
	return awswire.Merge(network.Operations(c), compute.Operations(c), storage.Operations(c))
}

// Handler serves authenticated calls.
func Handler(c *localcloud.Cloud) func(http.ResponseWriter, *awswire.Call) {
	ops := Operations(c)
	return func(w http.ResponseWriter, call *awswire.Call) {
		out, err := run(ops, call)
		if err == nil {
			err = awswire.WriteEC2(w, call, out)
		}
		if err != nil {
			awswire.WriteEC2Error(w, call.RequestID, localcloud.Refusal(err))
		}
	}
}

func run(ops awswire.Operations, call *awswire.Call) (any, error) {
	op, ok := ops[call.Action]
	switch v := call.Params.Get("Version"); {
	case call.Action == "":
		return nil, awswire.Errorf("MissingAction", "The request must contain the parameter Action")
	case !ok:
		return nil, awswire.Errorf("InvalidAction", "The action %s is not valid for this web service: the local cloud does not have it", call.Action)
	case v != version:
		return nil, awswire.Errorf("NoSuchVersion", "The API version %q is not supported, use %s", v, version)
	}
	return op(call.HTTP.Context(), call)
}
