/* rnnfast from C, and from every language that calls C.
 *
 * Every function returns a status; rnnfast_last_error() then tells what was given, what was wanted and what to do.
 * Results come through pointers. Objects are made by ..._new and ..._load, and released by ..._free, which take NULL as
 * well. A model never changes, so threads share one; a state or a sampler belongs to one thread at a time.
 *
 *     rnnfast_model *model;
 *     if (rnnfast_model_load("tm.safetensors", RNNFAST_AS_STORED, &model) != RNNFAST_OK) {
 *         fprintf(stderr, "%s\n", rnnfast_last_error());
 *         return 1;
 *     }
 */
#ifndef RNNFAST_H
#define RNNFAST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RNNFAST_C_API __attribute__((visibility("default")))
#else
#define RNNFAST_C_API
#endif

typedef enum rnnfast_status {
    RNNFAST_OK = 0,
    RNNFAST_INVALID_ARGUMENT = 1, /* NULL, a handle of another kind, a size or a value that cannot be */
    RNNFAST_OUT_OF_RANGE = 2,     /* a token id or an index that does not exist */
    RNNFAST_BAD_FILE = 3,         /* a file that is missing, damaged, or of another version */
    RNNFAST_BUFFER_TOO_SMALL = 4, /* the size that is needed is in the count that was passed */
    RNNFAST_OUT_OF_MEMORY = 5,
    RNNFAST_FAILED = 6,         /* anything else */
    RNNFAST_UNSUPPORTED_CPU = 7 /* the environment variable RNNFAST_ISA, or a CPU that this build has no code for */
} rnnfast_status;

/* Precision of the weights. Functions take it as an int, so that any value is checked and none is undefined. */
typedef enum rnnfast_weights {
    RNNFAST_AS_STORED = -1,
    RNNFAST_F32 = 0,
    RNNFAST_BF16 = 1,
    RNNFAST_INT8 = 2
} rnnfast_weights;

typedef struct rnnfast_model rnnfast_model;
typedef struct rnnfast_state rnnfast_state;
typedef struct rnnfast_sampler rnnfast_sampler;
typedef struct rnnfast_tensors rnnfast_tensors;
typedef struct rnnfast_recurrent rnnfast_recurrent;
typedef struct rnnfast_linear rnnfast_linear;
typedef struct rnnfast_translator rnnfast_translator;
typedef struct rnnfast_translations rnnfast_translations;

/* Of the last call of this thread that failed; never NULL. Valid until the thread's next failing call. */
RNNFAST_C_API const char* rnnfast_last_error(void);
RNNFAST_C_API const char* rnnfast_version(void);
RNNFAST_C_API rnnfast_status rnnfast_set_num_threads(int threads);
RNNFAST_C_API rnnfast_status rnnfast_num_threads(int* threads);
/* The instruction set in use, such as "avx512", ended by a zero. *size: in, the room at name; out, the bytes it takes
 * with that zero. */
RNNFAST_C_API rnnfast_status rnnfast_instruction_set(char* name, size_t* size);

/* Language models. */
RNNFAST_C_API rnnfast_status rnnfast_model_load(const char* path, int weights, rnnfast_model** model);
RNNFAST_C_API rnnfast_status rnnfast_model_load_memory(const void* bytes, size_t size, int weights,
                                                       rnnfast_model** model);
RNNFAST_C_API void rnnfast_model_free(rnnfast_model* model);
RNNFAST_C_API rnnfast_status rnnfast_model_vocab_size(const rnnfast_model* model, size_t* size);
/* Any of the places may be NULL. */
RNNFAST_C_API rnnfast_status rnnfast_model_sizes(const rnnfast_model* model, size_t* vocabulary, size_t* hidden,
                                                 size_t* num_layers);
/* "rnn", "rnn_relu", "lstm" or "gru", ended by a zero; *size as in rnnfast_instruction_set. */
RNNFAST_C_API rnnfast_status rnnfast_model_cell(const rnnfast_model* model, char* cell, size_t* size);
/* RNNFAST_F32, RNNFAST_BF16 or RNNFAST_INT8 */
RNNFAST_C_API rnnfast_status rnnfast_model_weights(const rnnfast_model* model, int* weights);
/* One token as it is in the vocabulary, and the vocabulary's tokenizer ("" without one), each ended by a zero. */
RNNFAST_C_API rnnfast_status rnnfast_token(const rnnfast_model* model, int32_t id, char* text, size_t* size);
RNNFAST_C_API rnnfast_status rnnfast_tokenizer(const rnnfast_model* model, char* text, size_t* size);

/* Ids of a UTF-8 text of `size` bytes. *count: in, the room at ids; out, how many ids the text has. */
RNNFAST_C_API rnnfast_status rnnfast_encode(const rnnfast_model* model, const char* text, size_t size, int32_t* ids,
                                            size_t* count);
/* Text of ids, ended by a zero. *size: in, the room at text; out, the bytes it takes with that zero. */
RNNFAST_C_API rnnfast_status rnnfast_decode(const rnnfast_model* model, const int32_t* ids, size_t count, char* text,
                                            size_t* size);

/* States of streams: of a model's, or of a stack of layers'. */
RNNFAST_C_API rnnfast_status rnnfast_state_new(const rnnfast_model* model, rnnfast_state** state);
RNNFAST_C_API rnnfast_status rnnfast_state_copy(const rnnfast_state* from, rnnfast_state** state);
RNNFAST_C_API rnnfast_status rnnfast_state_reset(rnnfast_state* state);
/* *size: in, the room at bytes; out, the bytes it takes. */
RNNFAST_C_API rnnfast_status rnnfast_state_save(const rnnfast_state* state, void* bytes, size_t* size);
RNNFAST_C_API rnnfast_status rnnfast_state_restore(rnnfast_state* state, const void* bytes, size_t size);
/* How many bytes rnnfast_state_save gives. */
RNNFAST_C_API rnnfast_status rnnfast_state_size(const rnnfast_state* state, size_t* size);
/* Copies the hidden state of a layer. *size: in, the room at hidden in floats; out, how many there are. */
RNNFAST_C_API rnnfast_status rnnfast_state_hidden(const rnnfast_state* state, size_t layer, float* hidden,
                                                  size_t* size);
RNNFAST_C_API void rnnfast_state_free(rnnfast_state* state);

/* One token in, the logits of the next out; `size` is the room at logits, in floats. */
RNNFAST_C_API rnnfast_status rnnfast_step(const rnnfast_model* model, int32_t token, rnnfast_state* state,
                                          float* logits, size_t size);
/* `count` streams at once, each state once only; logits: [count, vocabulary], size: the room there in floats. */
RNNFAST_C_API rnnfast_status rnnfast_step_many(const rnnfast_model* model, const int32_t* tokens,
                                               rnnfast_state* const* states, size_t count, float* logits, size_t size);
/* Reads `count` tokens; logits after the last. */
RNNFAST_C_API rnnfast_status rnnfast_run(const rnnfast_model* model, const int32_t* tokens, size_t count,
                                         rnnfast_state* state, float* logits, size_t size);
/* log P of tokens 1 ... count - 1 given those before, in nats; size: the room, at least count - 1. Reads all but the
 * last. tokens[0] is given: the joint probability of a text starts from <bos> if the vocabulary has it, and leaves out
 * P(tokens[0]) if not. */
RNNFAST_C_API rnnfast_status rnnfast_score(const rnnfast_model* model, const int32_t* tokens, size_t count,
                                           rnnfast_state* state, double* log_probabilities, size_t size);

/* temperature 0: the likeliest token; top_k 0: all tokens; top_p 1: all, else the likeliest that together reach it. */
RNNFAST_C_API rnnfast_status rnnfast_sampler_new(double temperature, size_t top_k, double top_p, uint64_t seed,
                                                 rnnfast_sampler** sampler);
RNNFAST_C_API rnnfast_status rnnfast_sample(rnnfast_sampler* sampler, const float* logits, size_t size, int32_t* token);
/* A copy goes on from where the original is. As bytes, and the saved state beside them, a generation continues in
 * another process. *size: in, the room at bytes; out, the bytes it takes. */
RNNFAST_C_API rnnfast_status rnnfast_sampler_copy(const rnnfast_sampler* from, rnnfast_sampler** sampler);
RNNFAST_C_API rnnfast_status rnnfast_sampler_save(const rnnfast_sampler* sampler, void* bytes, size_t* size);
RNNFAST_C_API rnnfast_status rnnfast_sampler_restore(rnnfast_sampler* sampler, const void* bytes, size_t size);
RNNFAST_C_API void rnnfast_sampler_free(rnnfast_sampler* sampler);

/* The continuation of a UTF-8 prompt ended by a zero. *size: in, the room at text; out, the bytes it takes with its
 * zero. Room that is too small costs the work: the sampler has moved on. */
RNNFAST_C_API rnnfast_status rnnfast_generate(const rnnfast_model* model, const char* prompt, size_t length,
                                              rnnfast_sampler* sampler, char* text, size_t* size);

/* Receives every token as it is drawn, but a stop token. Return 0 to continue, anything else to end with this token. */
typedef int (*rnnfast_on_token)(int32_t token, void* user_data);
/* How a text is continued: rnnfast_generate_defaults fills it in, change what you like. */
typedef struct rnnfast_generate_options {
    size_t struct_size;  /* sizeof(rnnfast_generate_options), so that later versions may add fields */
    size_t max_length;   /* most tokens */
    const int32_t* stop; /* ids that end the text; they are not part of it */
    size_t stop_count;
    rnnfast_on_token on_token; /* or NULL */
    void* user_data;           /* for on_token */
} rnnfast_generate_options;
RNNFAST_C_API rnnfast_status rnnfast_generate_defaults(rnnfast_generate_options* options);
/* The continuation of `count` ids by ids. The state goes on from where it is, and has then read the prompt and all
 * drawn tokens but the last: to continue, give that as the next prompt. options NULL: the defaults. *id_count: in, the
 * room at ids, at least max_length; out, how many there are. */
RNNFAST_C_API rnnfast_status rnnfast_generate_ids(const rnnfast_model* model, const int32_t* prompt, size_t count,
                                                  const rnnfast_generate_options* options, rnnfast_sampler* sampler,
                                                  rnnfast_state* state, int32_t* ids, size_t* id_count);

/* Safetensors files: named arrays, read as float32. */
RNNFAST_C_API rnnfast_status rnnfast_tensors_open(const char* path, rnnfast_tensors** tensors);
RNNFAST_C_API rnnfast_status rnnfast_tensors_parse(const void* bytes, size_t size, rnnfast_tensors** tensors);
RNNFAST_C_API rnnfast_status rnnfast_tensors_count(const rnnfast_tensors* tensors, size_t* count);
/* The name of a tensor, counted from 0 in the order of their names, ended by a zero. *size: in, the room at name; out,
 * the bytes it takes with that zero. */
RNNFAST_C_API rnnfast_status rnnfast_tensors_name(const rnnfast_tensors* tensors, size_t number, char* name,
                                                  size_t* size);
/* *dimensions: in, the room at shape (8 is enough for any); out, how many there are. */
RNNFAST_C_API rnnfast_status rnnfast_tensors_shape(const rnnfast_tensors* tensors, const char* name, size_t* shape,
                                                   size_t* dimensions);
/* *count: in, the room at values in floats; out, how many there are. */
RNNFAST_C_API rnnfast_status rnnfast_tensors_values(const rnnfast_tensors* tensors, const char* name, float* values,
                                                    size_t* count);
RNNFAST_C_API void rnnfast_tensors_free(rnnfast_tensors* tensors);

/* Layers of a safetensors file with PyTorch's names: {prefix}weight_ih_l0 and so on; cell: "rnn", "rnn_relu", "lstm",
 * "gru". */
RNNFAST_C_API rnnfast_status rnnfast_recurrent_load(const char* path, const char* prefix, const char* cell, int weights,
                                                    rnnfast_recurrent** layers);
/* The same of tensors that are open, or in memory; the tensors may be freed afterwards. */
RNNFAST_C_API rnnfast_status rnnfast_recurrent_new(const rnnfast_tensors* tensors, const char* prefix, const char* cell,
                                                   int weights, rnnfast_recurrent** layers);
RNNFAST_C_API rnnfast_status rnnfast_recurrent_sizes(const rnnfast_recurrent* layers, size_t* input, size_t* hidden,
                                                     size_t* num_layers);
RNNFAST_C_API rnnfast_status rnnfast_recurrent_state_new(const rnnfast_recurrent* layers, rnnfast_state** state);
/* x: [steps, input], x_size floats; y: [steps, hidden], room for y_size floats. */
RNNFAST_C_API rnnfast_status rnnfast_recurrent_run(const rnnfast_recurrent* layers, const float* x, size_t x_size,
                                                   size_t steps, rnnfast_state* state, float* y, size_t y_size);
/* One step of `count` streams at once, each state once only; x: [count, input], y: [count, hidden]. */
RNNFAST_C_API rnnfast_status rnnfast_recurrent_step_many(const rnnfast_recurrent* layers, const float* x, size_t x_size,
                                                         rnnfast_state* const* states, size_t count, float* y,
                                                         size_t y_size);
RNNFAST_C_API void rnnfast_recurrent_free(rnnfast_recurrent* layers);

/* y = x Wᵀ + b; bias may be NULL or "". */
RNNFAST_C_API rnnfast_status rnnfast_linear_load(const char* path, const char* weight, const char* bias, int weights,
                                                 rnnfast_linear** linear);
RNNFAST_C_API rnnfast_status rnnfast_linear_new(const rnnfast_tensors* tensors, const char* weight, const char* bias,
                                                int weights, rnnfast_linear** linear);
RNNFAST_C_API rnnfast_status rnnfast_linear_sizes(const rnnfast_linear* linear, size_t* input, size_t* output);
RNNFAST_C_API rnnfast_status rnnfast_linear_run(const rnnfast_linear* linear, const float* x, size_t x_size,
                                                size_t rows, float* y, size_t y_size);
RNNFAST_C_API void rnnfast_linear_free(rnnfast_linear* linear);

/* Translators: files of rf.Seq2Seq. One never changes, so threads share it. */
RNNFAST_C_API rnnfast_status rnnfast_translator_load(const char* path, int weights, rnnfast_translator** translator);
RNNFAST_C_API rnnfast_status rnnfast_translator_load_memory(const void* bytes, size_t size, int weights,
                                                            rnnfast_translator** translator);
RNNFAST_C_API void rnnfast_translator_free(rnnfast_translator* translator);
RNNFAST_C_API rnnfast_status rnnfast_translator_vocab_sizes(const rnnfast_translator* translator, size_t* source,
                                                            size_t* target);

/* How a translation is searched for: rnnfast_translate_defaults fills it in, change what you like. */
typedef struct rnnfast_translate_options {
    size_t beam_size;      /* 1: the likeliest token at each step */
    size_t n_best;         /* translations, at most beam_size */
    size_t max_length;     /* most tokens, <eos> counted; 0: twice the source's and ten */
    double length_penalty; /* score = log P / length^length_penalty */
} rnnfast_translate_options;
RNNFAST_C_API rnnfast_status rnnfast_translate_defaults(rnnfast_translate_options* options);

/* The best translations of a UTF-8 sentence of `size` bytes, or of `count` ids without <eos>; to be freed. options
 * NULL: the defaults. */
RNNFAST_C_API rnnfast_status rnnfast_translate(const rnnfast_translator* translator, const char* sentence, size_t size,
                                               const rnnfast_translate_options* options,
                                               rnnfast_translations** translations);
RNNFAST_C_API rnnfast_status rnnfast_translate_ids(const rnnfast_translator* translator, const int32_t* source,
                                                   size_t count, const rnnfast_translate_options* options,
                                                   rnnfast_translations** translations);
RNNFAST_C_API void rnnfast_translations_free(rnnfast_translations* translations);
/* How many there are: n_best, or fewer if there are no more. Number 0 is the best. */
RNNFAST_C_API rnnfast_status rnnfast_translations_count(const rnnfast_translations* translations, size_t* count);
/* Its text, ended by a zero. *size: in, the room at text; out, the bytes it takes with that zero. */
RNNFAST_C_API rnnfast_status rnnfast_translations_text(const rnnfast_translations* translations, size_t number,
                                                       char* text, size_t* size);
/* Its ids without <eos>. *count: in, the room at ids; out, how many there are. */
RNNFAST_C_API rnnfast_status rnnfast_translations_ids(const rnnfast_translations* translations, size_t number,
                                                      int32_t* ids, size_t* count);
/* log P of its tokens and <eos> in nats; its score; whether <eos> ended it (1) or max_length (0). Any may be NULL. */
RNNFAST_C_API rnnfast_status rnnfast_translations_score(const rnnfast_translations* translations, size_t number,
                                                        double* log_probability, double* score, int* ended);

/* log P(target, <eos> | source) in nats, of texts or of ids. */
RNNFAST_C_API rnnfast_status rnnfast_score_pair(const rnnfast_translator* translator, const char* source,
                                                size_t source_size, const char* target, size_t target_size,
                                                double* log_probability);
RNNFAST_C_API rnnfast_status rnnfast_score_pair_ids(const rnnfast_translator* translator, const int32_t* source,
                                                    size_t source_count, const int32_t* target, size_t target_count,
                                                    double* log_probability);

#ifdef __cplusplus
}
#endif

#endif
