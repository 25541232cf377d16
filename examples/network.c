/* Steps a network with one input of numbers and one output through the numbers on stdin, separated by white space.
 *
 *     network_c MODEL < measurements.txt
 *
 * Compiled with -DEMBEDDED and the output of `rnnfast embed MODEL --name embedded --output embedded.c`, the model is in
 * the program, which then needs no file.
 */
#include <rnnfast/rnnfast.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef EMBEDDED
const void *embedded_bytes(void);
size_t embedded_size(void);
#endif

static int failed(void) {
    fprintf(stderr, "%s\n", rnnfast_last_error());
    return 1;
}

int main(int argc, char **argv) {
    rnnfast_network *network;
    rnnfast_network_state *state;
    size_t inputs, outputs, size, ids, width;
#ifdef EMBEDDED
    (void)argc, (void)argv;
    if (rnnfast_network_load_memory(embedded_bytes(), embedded_size(), RNNFAST_AS_STORED, &network)) return failed();
#else
    if (argc != 2) {
        fprintf(stderr, "usage: %s MODEL < measurements.txt\n", argv[0]);
        return 2;
    }
    if (rnnfast_network_load(argv[1], RNNFAST_AS_STORED, &network)) return failed();
#endif
    if (rnnfast_network_counts(network, &inputs, &outputs)) return failed();
    if (rnnfast_network_input(network, 0, &size, &ids) || rnnfast_network_output(network, 0, &width, NULL)) return failed();
    if (inputs != 1 || outputs != 1 || ids) {
        fprintf(stderr, "this program is for networks with one input of numbers and one output\n");
        return 1;
    }
    if (rnnfast_network_state_new(network, &state)) return failed();
    float *x = malloc(size * sizeof *x), *y = malloc(width * sizeof *y);
    if (!x || !y) return 1;
    const rnnfast_values input = {x, NULL, size};
    const rnnfast_result output = {y, width};
    for (;;) {
        size_t read = 0;
        while (read < size && scanf("%f", &x[read]) == 1) ++read;
        if (read < size) break;
        if (rnnfast_network_step(network, &input, 1, state, &output, 1)) return failed();
        for (size_t i = 0; i < width; ++i) printf("%s%.9g", i ? "," : "", y[i]);
        putchar('\n');
    }
    free(x);
    free(y);
    rnnfast_network_state_free(state);
    rnnfast_network_free(network);
    return 0;
}
