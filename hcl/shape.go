package hcl

import "reflect"

// A Shape says what the options of a component look like.
type Shape struct {
	Blocks map[string]Shape // those that are nested blocks
	Lists  map[string]bool  // those that are lists of texts
}

// ShapeOf is the shape of a configuration, a pointer to a tagged struct.
func ShapeOf(cfg any) Shape { return shapeOf(reflect.TypeOf(cfg).Elem()) }

func shapeOf(t reflect.Type) Shape {
	s := Shape{Blocks: map[string]Shape{}, Lists: map[string]bool{}}
	for _, f := range layoutOf(t).fields {
		switch {
		case f.block:
			s.Blocks[f.name] = shapeOf(f.elem())
		case f.typ.Kind() == reflect.Slice && f.typ.Elem().Kind() == reflect.String:
			s.Lists[f.name] = true
		}
	}
	return s
}
