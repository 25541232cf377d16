/* Translates one sentence in C and prints the log-probability of each translation.
 *
 *     translate_c MODEL SENTENCE [BEAM_SIZE] [N_BEST]
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
        fprintf(stderr, "usage: %s MODEL SENTENCE [BEAM_SIZE] [N_BEST]\n", argv[0]);
        return 2;
    }
    rnnfast_translator *translator;
    rnnfast_translations *translations;
    rnnfast_translate_options options;
    size_t count;
    if (rnnfast_translator_load(argv[1], RNNFAST_AS_STORED, &translator)) return failed();
    if (rnnfast_translate_defaults(&options)) return failed();
    if (argc > 3) options.beam_size = strtoul(argv[3], NULL, 10);
    if (argc > 4) options.n_best = strtoul(argv[4], NULL, 10);
    if (rnnfast_translate(translator, argv[2], strlen(argv[2]), &options, &translations)) return failed();
    if (rnnfast_translations_count(translations, &count)) return failed();
    for (size_t i = 0; i < count; ++i) {
        size_t size = 0;
        double log_probability;
        char *text;
        rnnfast_translations_text(translations, i, NULL, &size); /* returns the required size */
        text = malloc(size);
        if (!text) return 1;
        if (rnnfast_translations_text(translations, i, text, &size)) return failed();
        if (rnnfast_translations_score(translations, i, &log_probability, NULL, NULL)) return failed();
        printf("%.17g\t%s\n", log_probability, text);
        free(text);
    }
    rnnfast_translations_free(translations);
    rnnfast_translator_free(translator);
    return 0;
}
