// Continues a prompt, token by token. For character models.
//
//	CGO_CFLAGS=-I/opt/rnnfast/include CGO_LDFLAGS=-L/opt/rnnfast/lib \
//	    go run . MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED]
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
)

func argument(place int, otherwise string) string {
	if len(os.Args) > place {
		return os.Args[place]
	}
	return otherwise
}

func generate() error {
	length, err := strconv.Atoi(argument(3, "200"))
	if err != nil {
		return err
	}
	temperature, err := strconv.ParseFloat(argument(4, "0.8"), 64)
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(argument(5, "0"), 10, 64)
	if err != nil {
		return err
	}
	model, err := Load(os.Args[1])
	if err != nil {
		return err
	}
	defer model.Free()
	state, err := model.NewState()
	if err != nil {
		return err
	}
	defer state.Free()
	sampler, err := NewSampler(temperature, seed)
	if err != nil {
		return err
	}
	defer sampler.Free()
	size, err := model.VocabSize()
	if err != nil {
		return err
	}
	prompt, err := model.Encode(os.Args[2])
	if err != nil {
		return err
	}
	logits := make([]float32, size)
	for _, token := range prompt {
		if err := state.Step(token, logits); err != nil {
			return err
		}
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprint(out, os.Args[2])
	for i := 0; i < length; i++ {
		token, err := sampler.Sample(logits)
		if err != nil {
			return err
		}
		text, err := model.Decode(token)
		if err != nil {
			return err
		}
		fmt.Fprint(out, text)
		if err := state.Step(token, logits); err != nil {
			return err
		}
	}
	fmt.Fprintln(out)
	return nil
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintf(os.Stderr, "usage: %s MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED]\n", os.Args[0])
		os.Exit(2)
	}
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
