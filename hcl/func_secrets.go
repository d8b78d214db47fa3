package hcl

import (
	"context"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// secretFunc is a function of texts whose result is secret. A parameter named
// in optional may be null, which is handed on as "".
func secretFunc(params []string, optional string, f func(args []string) (string, error)) function.Function {
	spec := &function.Spec{
		Type: function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			texts := make([]string, len(args))
			for i, a := range args {
				if !a.IsNull() {
					texts[i] = a.AsString()
				}
			}
			s, err := f(texts)
			if err != nil {
				return cty.UnknownVal(cty.String), err
			}
			return MarkSensitive(cty.StringVal(s)), nil
		},
	}
	for _, p := range params {
		spec.Params = append(spec.Params, function.Parameter{Name: p, Type: cty.String, AllowNull: p == optional})
	}
	return function.New(spec)
}

// vaultFunc reads one key of a secret of HashiCorp Vault.
func (e funcEnv) vaultFunc() function.Function {
	return secretFunc([]string{"path", "key"}, "", func(a []string) (string, error) {
		return e.stores.Vault(e.ctx, a[0], a[1])
	})
}

// consulFunc reads one key of Consul's key-value store. What is in it is
// configuration, not a secret.
func (e funcEnv) consulFunc() function.Function {
	return textFunc("key", func(key string) (string, error) { return e.stores.Consul(e.ctx, key) })
}

// secretsManagerFunc reads one value of a secret of AWS Secrets Manager; the
// key null or "" stands for the first one.
func (e funcEnv) secretsManagerFunc() function.Function {
	return secretFunc([]string{"name", "key"}, "key", func(a []string) (string, error) {
		return e.stores.Secret(e.ctx, a[0], a[1])
	})
}

// secretsManagerRawFunc reads a whole secret of AWS Secrets Manager.
func (e funcEnv) secretsManagerRawFunc() function.Function {
	return secretFunc([]string{"name"}, "", func(a []string) (string, error) { return e.stores.Raw(e.ctx, a[0]) })
}

// background is the context of functions that run after Load: an expression
// may be evaluated again while a build runs, when Load's context may be over.
func background(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
