/* Continues a prompt in C and prints each token as soon as it is sampled. For character models.
 *
 *     generate_c MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED]
 */
#include <rnnfast/rnnfast.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(void) {
    fprintf(stderr, "%s\n", rnnfast_last_error());
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED]\n", argv[0]);
        return 2;
    }
    const char *prompt = argv[2];
    const size_t length = argc > 3 ? strtoul(argv[3], NULL, 10) : 200;
    rnnfast_model *model;
    rnnfast_state *state;
    rnnfast_sampler *sampler;
    size_t vocabulary, count = strlen(prompt);
    if (rnnfast_model_load(argv[1], RNNFAST_AS_STORED, &model)) return failed();
    if (rnnfast_state_new(model, &state)) return failed();
    if (rnnfast_sampler_new(argc > 4 ? atof(argv[4]) : 0.8, 0, 1.0, argc > 5 ? strtoull(argv[5], NULL, 10) : 0, &sampler))
        return failed();
    if (rnnfast_model_vocab_size(model, &vocabulary)) return failed();

    int32_t *ids = malloc((count + 1) * sizeof *ids); /* a text has at most as many tokens as bytes */
    float *logits = malloc(vocabulary * sizeof *logits);
    if (!ids || !logits) return 1;
    if (rnnfast_encode(model, prompt, strlen(prompt), ids, &count)) return failed();
    if (rnnfast_run(model, ids, count, state, logits, vocabulary)) return failed();
    fputs(prompt, stdout);
    for (size_t i = 0; i < length; ++i) {
        int32_t id;
        char text[64];
        size_t size = sizeof text;
        if (rnnfast_sample(sampler, logits, vocabulary, &id)) return failed();
        if (rnnfast_decode(model, &id, 1, text, &size)) return failed();
        fputs(text, stdout);
        if (rnnfast_step(model, id, state, logits, vocabulary)) return failed();
    }
    putchar('\n');

    free(ids);
    free(logits);
    rnnfast_sampler_free(sampler);
    rnnfast_state_free(state);
    rnnfast_model_free(model);
    return 0;
}
