/* The C API of rnnfast, for C and every language that calls C.
 *
 * Every function returns a status; after an error, rnnfast_last_error() reports what was given, what was expected and
 * what to do. Functions return results through pointers. ..._new and ..._load create objects; ..._free releases them
 * and accepts NULL. A model is immutable, so threads share it; a state or a sampler belongs to one thread at a time.
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
    RNNFAST_INVALID_ARGUMENT = 1, /* NULL, a handle of another kind, an impossible size or value */
    RNNFAST_OUT_OF_RANGE = 2,     /* a token id or an index that does not exist */
    RNNFAST_BAD_FILE = 3,         /* a missing or damaged file, or another version */
    RNNFAST_BUFFER_TOO_SMALL = 4, /* the required size is in the count argument */
    RNNFAST_OUT_OF_MEMORY = 5,
    RNNFAST_FAILED = 6,         /* anything else */
    RNNFAST_UNSUPPORTED_CPU = 7 /* a bad environment variable RNNFAST_ISA, or a CPU without code in this build */
} rnnfast_status;

/* Precision of the weights. Functions take an int, so that they can check any value. */
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
typedef struct rnnfast_network rnnfast_network;
typedef struct rnnfast_network_state rnnfast_network_state;
typedef struct rnnfast_classifier rnnfast_classifier;
typedef struct rnnfast_tagger rnnfast_tagger;
typedef struct rnnfast_autoregressor rnnfast_autoregressor;
typedef struct rnnfast_forecaster rnnfast_forecaster;

/* The message of this thread's last failed call; never NULL. Valid until the next failed call of the thread. */
RNNFAST_C_API const char* rnnfast_last_error(void);
RNNFAST_C_API const char* rnnfast_version(void);
/* The version of the binary interface: a program must run with a library that returns the RNNFAST_ABI_VERSION with
 * which the program was compiled. Additions do not change it. */
#define RNNFAST_ABI_VERSION 1
RNNFAST_C_API int rnnfast_abi_version(void);
RNNFAST_C_API rnnfast_status rnnfast_set_num_threads(int threads);
RNNFAST_C_API rnnfast_status rnnfast_num_threads(int* threads);

/* Threads of the program in place of the library's. execute calls run(job, index, size) once for every index below a
 * size from 1 to `threads`, and returns when all calls have returned. They must run at the same time, since they wait
 * for one another: with too few free threads, the size is smaller, 1 with none. Results do not depend on it.
 * execute NULL: the library's own threads again. */
typedef void (*rnnfast_run_part)(void* job, size_t index, size_t size);
typedef void (*rnnfast_execute)(void* user, size_t threads, rnnfast_run_part run, void* job);
RNNFAST_C_API rnnfast_status rnnfast_set_executor(rnnfast_execute execute, void* user);
/* Memory for weights, states and what calls compute. allocate returns NULL for no memory: the call returns
 * RNNFAST_OUT_OF_MEMORY. The alignment is a power of two. Fails while the library holds memory, which must go back to
 * where it came from: set it before anything else. Both NULL: the system's. */
typedef void* (*rnnfast_allocate)(void* user, size_t bytes, size_t alignment);
typedef void (*rnnfast_release)(void* user, void* memory);
RNNFAST_C_API rnnfast_status rnnfast_set_allocator(rnnfast_allocate allocate, rnnfast_release release, void* user);
/* Receives the few events that are worth a line in the program's log: the instruction set and the number of threads, at
 * first use; the files that are read; and as warnings, where the library falls back to something slower. message: one
 * sentence without a line end, which is gone after the call. Any thread may call, several at the same time. The
 * function calls nothing of the library and throws nothing. Set it before anything else, because a first use is
 * reported once. A step that allocates nothing reports nothing. log NULL: no log, as at the start. */
typedef enum rnnfast_log_level { RNNFAST_LOG_INFO = 0, RNNFAST_LOG_WARNING = 1 } rnnfast_log_level;
typedef void (*rnnfast_log)(void* user, int level, const char* message);
RNNFAST_C_API rnnfast_status rnnfast_set_log(rnnfast_log log, void* user);

/* The active instruction set, such as "avx512", zero-terminated. *size: in, the capacity of name; out, the size in
 * bytes with the zero. */
RNNFAST_C_API rnnfast_status rnnfast_instruction_set(char* name, size_t* size);

/* Language models. */
RNNFAST_C_API rnnfast_status rnnfast_model_load(const char* path, int weights, rnnfast_model** model);
RNNFAST_C_API rnnfast_status rnnfast_model_load_memory(const void* bytes, size_t size, int weights,
                                                       rnnfast_model** model);
RNNFAST_C_API void rnnfast_model_free(rnnfast_model* model);
RNNFAST_C_API rnnfast_status rnnfast_model_vocab_size(const rnnfast_model* model, size_t* size);
/* Any output pointer may be NULL. */
RNNFAST_C_API rnnfast_status rnnfast_model_sizes(const rnnfast_model* model, size_t* vocabulary, size_t* hidden,
                                                 size_t* num_layers);
/* The name of the cell, such as "lstm" (docs/model-file.md), zero-terminated; *size as in rnnfast_instruction_set. */
RNNFAST_C_API rnnfast_status rnnfast_model_cell(const rnnfast_model* model, char* cell, size_t* size);
/* RNNFAST_F32, RNNFAST_BF16 or RNNFAST_INT8 */
RNNFAST_C_API rnnfast_status rnnfast_model_weights(const rnnfast_model* model, int* weights);
/* One token, as the vocabulary spells it, and its tokenizer ("" without a vocabulary), both zero-terminated. */
RNNFAST_C_API rnnfast_status rnnfast_token(const rnnfast_model* model, int32_t id, char* text, size_t* size);
RNNFAST_C_API rnnfast_status rnnfast_tokenizer(const rnnfast_model* model, char* text, size_t* size);

/* Ids of a UTF-8 text of `size` bytes. *count: in, the capacity of ids; out, the number of ids of the text. */
RNNFAST_C_API rnnfast_status rnnfast_encode(const rnnfast_model* model, const char* text, size_t size, int32_t* ids,
                                            size_t* count);
/* Text of ids, zero-terminated. *size: in, the capacity of text; out, the size in bytes with the zero. */
RNNFAST_C_API rnnfast_status rnnfast_decode(const rnnfast_model* model, const int32_t* ids, size_t count, char* text,
                                            size_t* size);

/* States of streams, for a model or a stack of layers. */
RNNFAST_C_API rnnfast_status rnnfast_state_new(const rnnfast_model* model, rnnfast_state** state);
RNNFAST_C_API rnnfast_status rnnfast_state_copy(const rnnfast_state* from, rnnfast_state** state);
RNNFAST_C_API rnnfast_status rnnfast_state_reset(rnnfast_state* state);
/* *size: in, the capacity of bytes; out, the size. */
RNNFAST_C_API rnnfast_status rnnfast_state_save(const rnnfast_state* state, void* bytes, size_t* size);
RNNFAST_C_API rnnfast_status rnnfast_state_restore(rnnfast_state* state, const void* bytes, size_t size);
/* The number of bytes from rnnfast_state_save. */
RNNFAST_C_API rnnfast_status rnnfast_state_size(const rnnfast_state* state, size_t* size);
/* Copies the hidden state of a layer. *size: in, the capacity of hidden in floats; out, the number of floats. */
RNNFAST_C_API rnnfast_status rnnfast_state_hidden(const rnnfast_state* state, size_t layer, float* hidden,
                                                  size_t* size);
RNNFAST_C_API void rnnfast_state_free(rnnfast_state* state);

/* Reads one token and returns the logits of the next; `size` is the capacity of logits in floats. */
RNNFAST_C_API rnnfast_status rnnfast_step(const rnnfast_model* model, int32_t token, rnnfast_state* state,
                                          float* logits, size_t size);
/* Steps `count` different streams together; logits: [count, vocabulary], size: their capacity in floats. */
RNNFAST_C_API rnnfast_status rnnfast_step_many(const rnnfast_model* model, const int32_t* tokens,
                                               rnnfast_state* const* states, size_t count, float* logits, size_t size);
/* Readies what the next step of these `count` states on this thread needs: after it, the step allocates nothing and
 * causes no page fault. Takes a step, and puts the states back. */
RNNFAST_C_API rnnfast_status rnnfast_model_prefault(const rnnfast_model* model, rnnfast_state* const* states,
                                                    size_t count);
/* Reads `count` tokens and returns the logits after the last one. */
RNNFAST_C_API rnnfast_status rnnfast_run(const rnnfast_model* model, const int32_t* tokens, size_t count,
                                         rnnfast_state* state, float* logits, size_t size);
/* log P of tokens 1 ... count - 1, each given those before it, in nats; size: the capacity, at least count - 1. Reads
 * all tokens except the last. tokens[0] is given: for the joint probability of a text, start with <bos> if the
 * vocabulary has it; otherwise P(tokens[0]) is not included. */
RNNFAST_C_API rnnfast_status rnnfast_score(const rnnfast_model* model, const int32_t* tokens, size_t count,
                                           rnnfast_state* state, double* log_probabilities, size_t size);

/* temperature 0: the most probable token; top_k 0: all tokens; top_p 1: all, else the most probable tokens that
 * together reach it. */
RNNFAST_C_API rnnfast_status rnnfast_sampler_new(double temperature, size_t top_k, double top_p, uint64_t seed,
                                                 rnnfast_sampler** sampler);
RNNFAST_C_API rnnfast_status rnnfast_sample(rnnfast_sampler* sampler, const float* logits, size_t size, int32_t* token);
/* A copy continues from the position of the original. With the saved bytes of sampler and state, a generation continues
 * in another process. *size: in, the capacity of bytes; out, the size. */
RNNFAST_C_API rnnfast_status rnnfast_sampler_copy(const rnnfast_sampler* from, rnnfast_sampler** sampler);
RNNFAST_C_API rnnfast_status rnnfast_sampler_save(const rnnfast_sampler* sampler, void* bytes, size_t* size);
RNNFAST_C_API rnnfast_status rnnfast_sampler_restore(rnnfast_sampler* sampler, const void* bytes, size_t size);
RNNFAST_C_API void rnnfast_sampler_free(rnnfast_sampler* sampler);

/* Continues a zero-terminated UTF-8 prompt. *size: in, the capacity of text; out, the size in bytes with the zero. If
 * the capacity is too small, the work is lost, because the sampler has advanced. */
RNNFAST_C_API rnnfast_status rnnfast_generate(const rnnfast_model* model, const char* prompt, size_t length,
                                              rnnfast_sampler* sampler, char* text, size_t* size);

/* Receives every sampled token except a stop token. Return 0 to continue, anything else to end with this token. */
typedef int (*rnnfast_on_token)(int32_t token, void* user_data);
/* Options of generation: call rnnfast_generate_defaults first, then change fields. */
typedef struct rnnfast_generate_options {
    size_t struct_size;  /* sizeof(rnnfast_generate_options), so that later versions may add fields */
    size_t max_length;   /* maximum number of tokens */
    const int32_t* stop; /* ids that end the text and are not part of it */
    size_t stop_count;
    rnnfast_on_token on_token; /* or NULL */
    void* user_data;           /* for on_token */
} rnnfast_generate_options;
RNNFAST_C_API rnnfast_status rnnfast_generate_defaults(rnnfast_generate_options* options);
/* Continues `count` ids with ids, from the given state. Afterwards the state has read the prompt and all sampled tokens
 * except the last: to continue, use that token as the next prompt. options NULL: the defaults. *id_count: in, the
 * capacity of ids, at least max_length; out, the number of ids. */
RNNFAST_C_API rnnfast_status rnnfast_generate_ids(const rnnfast_model* model, const int32_t* prompt, size_t count,
                                                  const rnnfast_generate_options* options, rnnfast_sampler* sampler,
                                                  rnnfast_state* state, int32_t* ids, size_t* id_count);

/* Safetensors files: named arrays, read as float32. */
RNNFAST_C_API rnnfast_status rnnfast_tensors_open(const char* path, rnnfast_tensors** tensors);
RNNFAST_C_API rnnfast_status rnnfast_tensors_parse(const void* bytes, size_t size, rnnfast_tensors** tensors);
RNNFAST_C_API rnnfast_status rnnfast_tensors_count(const rnnfast_tensors* tensors, size_t* count);
/* The zero-terminated name of a tensor; numbers count from 0 in the order of the names. *size: in, the capacity of
 * name; out, the size in bytes with the zero. */
RNNFAST_C_API rnnfast_status rnnfast_tensors_name(const rnnfast_tensors* tensors, size_t number, char* name,
                                                  size_t* size);
/* *dimensions: in, the capacity of shape (8 is always enough); out, the number of dimensions. */
RNNFAST_C_API rnnfast_status rnnfast_tensors_shape(const rnnfast_tensors* tensors, const char* name, size_t* shape,
                                                   size_t* dimensions);
/* *count: in, the capacity of values in floats; out, the number of floats. */
RNNFAST_C_API rnnfast_status rnnfast_tensors_values(const rnnfast_tensors* tensors, const char* name, float* values,
                                                    size_t* count);
RNNFAST_C_API void rnnfast_tensors_free(rnnfast_tensors* tensors);

/* Layers from a safetensors file with PyTorch's names: {prefix}weight_ih_l0 and so on; cell: "rnn", "rnn_relu",
 * "lstm", "gru" or another of docs/model-file.md. */
RNNFAST_C_API rnnfast_status rnnfast_recurrent_load(const char* path, const char* prefix, const char* cell, int weights,
                                                    rnnfast_recurrent** layers);
/* The same from open tensors, or tensors in memory; they may be freed afterwards. */
RNNFAST_C_API rnnfast_status rnnfast_recurrent_new(const rnnfast_tensors* tensors, const char* prefix, const char* cell,
                                                   int weights, rnnfast_recurrent** layers);
RNNFAST_C_API rnnfast_status rnnfast_recurrent_sizes(const rnnfast_recurrent* layers, size_t* input, size_t* hidden,
                                                     size_t* num_layers);
RNNFAST_C_API rnnfast_status rnnfast_recurrent_state_new(const rnnfast_recurrent* layers, rnnfast_state** state);
/* x: [steps, input], x_size floats; y: [steps, hidden], with a capacity of y_size floats. */
RNNFAST_C_API rnnfast_status rnnfast_recurrent_run(const rnnfast_recurrent* layers, const float* x, size_t x_size,
                                                   size_t steps, rnnfast_state* state, float* y, size_t y_size);
/* Steps `count` different streams together; x: [count, input], y: [count, hidden]. */
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

/* Translators: files of rf.Seq2Seq. A translator is immutable, so threads share it. */
RNNFAST_C_API rnnfast_status rnnfast_translator_load(const char* path, int weights, rnnfast_translator** translator);
RNNFAST_C_API rnnfast_status rnnfast_translator_load_memory(const void* bytes, size_t size, int weights,
                                                            rnnfast_translator** translator);
RNNFAST_C_API void rnnfast_translator_free(rnnfast_translator* translator);
RNNFAST_C_API rnnfast_status rnnfast_translator_vocab_sizes(const rnnfast_translator* translator, size_t* source,
                                                            size_t* target);

/* Options of the search: call rnnfast_translate_defaults first, then change fields. */
typedef struct rnnfast_translate_options {
    size_t beam_size;      /* 1: the most probable token at each step */
    size_t n_best;         /* number of translations, at most beam_size */
    size_t max_length;     /* maximum number of tokens, including <eos>; 0: twice the source's, plus ten */
    double length_penalty; /* score = log P / length^length_penalty */
} rnnfast_translate_options;
RNNFAST_C_API rnnfast_status rnnfast_translate_defaults(rnnfast_translate_options* options);

/* The best translations of a UTF-8 sentence of `size` bytes, or of `count` ids without <eos>; free them after use.
 * options NULL: the defaults. */
RNNFAST_C_API rnnfast_status rnnfast_translate(const rnnfast_translator* translator, const char* sentence, size_t size,
                                               const rnnfast_translate_options* options,
                                               rnnfast_translations** translations);
RNNFAST_C_API rnnfast_status rnnfast_translate_ids(const rnnfast_translator* translator, const int32_t* source,
                                                   size_t count, const rnnfast_translate_options* options,
                                                   rnnfast_translations** translations);
RNNFAST_C_API void rnnfast_translations_free(rnnfast_translations* translations);
/* The number of translations: n_best, or fewer if there are no more. Number 0 is the best. */
RNNFAST_C_API rnnfast_status rnnfast_translations_count(const rnnfast_translations* translations, size_t* count);
/* The text, zero-terminated. *size: in, the capacity of text; out, the size in bytes with the zero. */
RNNFAST_C_API rnnfast_status rnnfast_translations_text(const rnnfast_translations* translations, size_t number,
                                                       char* text, size_t* size);
/* The ids without <eos>. *count: in, the capacity of ids; out, the number of ids. */
RNNFAST_C_API rnnfast_status rnnfast_translations_ids(const rnnfast_translations* translations, size_t number,
                                                      int32_t* ids, size_t* count);
/* log P of the tokens and <eos> in nats; the score; whether <eos> (1) or max_length (0) ended it. Any may be NULL. */
RNNFAST_C_API rnnfast_status rnnfast_translations_score(const rnnfast_translations* translations, size_t number,
                                                        double* log_probability, double* score, int* ended);

/* log P(target, <eos> | source) in nats, for texts or for ids. */
RNNFAST_C_API rnnfast_status rnnfast_score_pair(const rnnfast_translator* translator, const char* source,
                                                size_t source_size, const char* target, size_t target_size,
                                                double* log_probability);
RNNFAST_C_API rnnfast_status rnnfast_score_pair_ids(const rnnfast_translator* translator, const int32_t* source,
                                                    size_t source_count, const int32_t* target, size_t target_count,
                                                    double* log_probability);

/* Networks: files of rf.Sequential, rf.Network and the estimators. A network is immutable, so threads share it; each
 * stream has its own state. */
RNNFAST_C_API rnnfast_status rnnfast_network_load(const char* path, int weights, rnnfast_network** network);
RNNFAST_C_API rnnfast_status rnnfast_network_load_memory(const void* bytes, size_t size, int weights,
                                                         rnnfast_network** network);
RNNFAST_C_API void rnnfast_network_free(rnnfast_network* network);
RNNFAST_C_API rnnfast_status rnnfast_network_weights(const rnnfast_network* network, int* weights);
/* The numbers of inputs and outputs, which count from 0. Any output pointer may be NULL, here and in the next two. */
RNNFAST_C_API rnnfast_status rnnfast_network_counts(const rnnfast_network* network, size_t* inputs, size_t* outputs);
/* *size: numbers a step, or 0 for an input of ids. *ids: how many ids there are, or 0 for an input of numbers. */
RNNFAST_C_API rnnfast_status rnnfast_network_input(const rnnfast_network* network, size_t number, size_t* size,
                                                   size_t* ids);
/* *width: numbers a step. *summary: 1 if one step comes out of a whole sequence (after a pool), else 0. */
RNNFAST_C_API rnnfast_status rnnfast_network_output(const rnnfast_network* network, size_t number, size_t* width,
                                                    int* summary);
/* Zero-terminated names. *size: in, the capacity of name; out, the size in bytes with the zero. */
RNNFAST_C_API rnnfast_status rnnfast_network_input_name(const rnnfast_network* network, size_t number, char* name,
                                                        size_t* size);
RNNFAST_C_API rnnfast_status rnnfast_network_output_name(const rnnfast_network* network, size_t number, char* name,
                                                         size_t* size);
/* The steps that an output has for sequences of `steps` steps, and the length of a row of that length; 0: too few. */
RNNFAST_C_API rnnfast_status rnnfast_network_output_steps(const rnnfast_network* network, size_t number, size_t steps,
                                                          size_t* output_steps);

/* An input of a call: numbers in x or ids in ids, the other one NULL; size: how many there are in all. */
typedef struct rnnfast_values {
    const float* x;
    const int32_t* ids;
    size_t size;
} rnnfast_values;
/* An output of a call; y NULL: not wanted. size: its capacity in floats. */
typedef struct rnnfast_result {
    float* y;
    size_t size;
} rnnfast_result;
/* Whole sequences, side by side. lengths: NULL, or the steps of each row, 0 to `steps`; what lies beyond has no effect
 * and is 0 in every output. */
typedef struct rnnfast_batch {
    size_t steps, rows;
    const int64_t* lengths;
} rnnfast_batch;
/* Runs whole sequences. inputs: [steps, rows, size] numbers or [steps, rows] ids each; outputs: [its steps, rows,
 * width] each. The counts are those of the network. */
RNNFAST_C_API rnnfast_status rnnfast_network_run(const rnnfast_network* network, const rnnfast_values* inputs,
                                                 size_t input_count, const rnnfast_batch* batch,
                                                 const rnnfast_result* outputs, size_t output_count);

/* Why the network cannot run one step at a time, as a zero-terminated sentence; "" if it can. *size as above. */
RNNFAST_C_API rnnfast_status rnnfast_network_no_stream(const rnnfast_network* network, char* sentence, size_t* size);
/* The number of bytes from rnnfast_network_state_save, for any state of this network. */
RNNFAST_C_API rnnfast_status rnnfast_network_state_bytes(const rnnfast_network* network, size_t* size);
RNNFAST_C_API rnnfast_status rnnfast_network_state_new(const rnnfast_network* network, rnnfast_network_state** state);
RNNFAST_C_API rnnfast_status rnnfast_network_state_copy(const rnnfast_network_state* from,
                                                        rnnfast_network_state** state);
RNNFAST_C_API rnnfast_status rnnfast_network_state_reset(rnnfast_network_state* state);
/* Makes the workspace of single steps, so that the first one does not allocate either, except once for each thread. */
RNNFAST_C_API rnnfast_status rnnfast_network_state_reserve(rnnfast_network_state* state);
/* *size: in, the capacity of bytes; out, the size. */
RNNFAST_C_API rnnfast_status rnnfast_network_state_save(const rnnfast_network_state* state, void* bytes, size_t* size);
RNNFAST_C_API rnnfast_status rnnfast_network_state_restore(rnnfast_network_state* state, const void* bytes,
                                                           size_t size);
RNNFAST_C_API void rnnfast_network_state_free(rnnfast_network_state* state);
/* One step of one stream. inputs: [size] numbers or one id each; outputs: [width] each. Allocates nothing after the
 * first step of a state and of a thread. */
RNNFAST_C_API rnnfast_status rnnfast_network_step(const rnnfast_network* network, const rnnfast_values* inputs,
                                                  size_t input_count, rnnfast_network_state* state,
                                                  const rnnfast_result* outputs, size_t output_count);
/* Steps `count` different streams together. inputs: [count, size] numbers or [count] ids each; outputs: [count, width]
 * each. */
RNNFAST_C_API rnnfast_status rnnfast_network_step_many(const rnnfast_network* network, const rnnfast_values* inputs,
                                                       size_t input_count, rnnfast_network_state* const* states,
                                                       size_t count, const rnnfast_result* outputs,
                                                       size_t output_count);
/* Readies what the next step of these `count` states on this thread needs: after it, the step allocates nothing and
 * causes no page fault. Takes a step, and puts the states back. */
RNNFAST_C_API rnnfast_status rnnfast_network_prefault(const rnnfast_network* network,
                                                      rnnfast_network_state* const* states, size_t count);
/* `steps` steps of one stream. inputs: [steps, size] numbers or [steps] ids each; outputs: [steps, width] each. */
RNNFAST_C_API rnnfast_status rnnfast_network_read(const rnnfast_network* network, const rnnfast_values* inputs,
                                                  size_t input_count, size_t steps, rnnfast_network_state* state,
                                                  const rnnfast_result* outputs, size_t output_count);

/* Classifiers: files of rf.SequenceClassifier. weights: RNNFAST_AS_STORED is f32. */
RNNFAST_C_API rnnfast_status rnnfast_classifier_load(const char* path, int weights, rnnfast_classifier** classifier);
RNNFAST_C_API rnnfast_status rnnfast_classifier_load_memory(const void* bytes, size_t size, int weights,
                                                            rnnfast_classifier** classifier);
RNNFAST_C_API void rnnfast_classifier_free(rnnfast_classifier* classifier);
/* *labels: how many there are. *features: numbers a step, 0 if it reads tokens. Either may be NULL. */
RNNFAST_C_API rnnfast_status rnnfast_classifier_sizes(const rnnfast_classifier* classifier, size_t* labels,
                                                      size_t* features);
/* A zero-terminated label. *size: in, the capacity of label; out, the size in bytes with the zero. */
RNNFAST_C_API rnnfast_status rnnfast_classifier_label(const rnnfast_classifier* classifier, size_t number, char* label,
                                                      size_t* size);
/* P(label) of a UTF-8 text of `size` bytes, of `count` ids, or of [steps, features] numbers. *labels: in, the capacity
 * of probabilities; out, the number of labels. */
RNNFAST_C_API rnnfast_status rnnfast_classify(const rnnfast_classifier* classifier, const char* text, size_t size,
                                              double* probabilities, size_t* labels);
RNNFAST_C_API rnnfast_status rnnfast_classify_ids(const rnnfast_classifier* classifier, const int32_t* ids,
                                                  size_t count, double* probabilities, size_t* labels);
RNNFAST_C_API rnnfast_status rnnfast_classify_numbers(const rnnfast_classifier* classifier, const double* numbers,
                                                      size_t steps, double* probabilities, size_t* labels);

/* Taggers: files of rf.SequenceTagger, whose functions are those of classifiers. probabilities: [steps, labels], a step
 * for each token of a text, id, or row of numbers. *room: in, the capacity of probabilities; out, how many there are.
 */
RNNFAST_C_API rnnfast_status rnnfast_tagger_load(const char* path, int weights, rnnfast_tagger** tagger);
RNNFAST_C_API rnnfast_status rnnfast_tagger_load_memory(const void* bytes, size_t size, int weights,
                                                        rnnfast_tagger** tagger);
RNNFAST_C_API void rnnfast_tagger_free(rnnfast_tagger* tagger);
RNNFAST_C_API rnnfast_status rnnfast_tagger_sizes(const rnnfast_tagger* tagger, size_t* labels, size_t* features);
RNNFAST_C_API rnnfast_status rnnfast_tagger_label(const rnnfast_tagger* tagger, size_t number, char* label,
                                                  size_t* size);
RNNFAST_C_API rnnfast_status rnnfast_tag(const rnnfast_tagger* tagger, const char* text, size_t size,
                                         double* probabilities, size_t* room);
RNNFAST_C_API rnnfast_status rnnfast_tag_ids(const rnnfast_tagger* tagger, const int32_t* ids, size_t count,
                                             double* probabilities, size_t* room);
RNNFAST_C_API rnnfast_status rnnfast_tag_numbers(const rnnfast_tagger* tagger, const double* numbers, size_t steps,
                                                 double* probabilities, size_t* room);

/* Autoregressors: files of rf.Autoregressor. Numbers are those of the series; the file holds their mean and scale. */
RNNFAST_C_API rnnfast_status rnnfast_autoregressor_load(const char* path, int weights,
                                                        rnnfast_autoregressor** forecaster);
RNNFAST_C_API rnnfast_status rnnfast_autoregressor_load_memory(const void* bytes, size_t size, int weights,
                                                               rnnfast_autoregressor** forecaster);
RNNFAST_C_API void rnnfast_autoregressor_free(rnnfast_autoregressor* forecaster);
/* Numbers a step. */
RNNFAST_C_API rnnfast_status rnnfast_autoregressor_width(const rnnfast_autoregressor* forecaster, size_t* width);
/* A state before any step, or, with fitted 1, after the series of the training; rnnfast_network_state_free frees it. */
RNNFAST_C_API rnnfast_status rnnfast_autoregressor_state_new(const rnnfast_autoregressor* forecaster, int fitted,
                                                             rnnfast_network_state** state);
/* Reads the numbers of a step and returns the forecast of the next one, [width] each; size: the capacity. */
RNNFAST_C_API rnnfast_status rnnfast_autoregressor_step(const rnnfast_autoregressor* forecaster, const double* numbers,
                                                        rnnfast_network_state* state, double* forecast, size_t size);
/* The k steps [k, width] after a series [steps, width], or, with series NULL, after that of the training. size: the
 * capacity of forecast. */
RNNFAST_C_API rnnfast_status rnnfast_forecast(const rnnfast_autoregressor* forecaster, size_t k, const double* series,
                                              size_t steps, double* forecast, size_t size);

/* Forecasters: files of rf.Forecaster. */
RNNFAST_C_API rnnfast_status rnnfast_forecaster_load(const char* path, int weights, rnnfast_forecaster** forecaster);
RNNFAST_C_API rnnfast_status rnnfast_forecaster_load_memory(const void* bytes, size_t size, int weights,
                                                            rnnfast_forecaster** forecaster);
RNNFAST_C_API void rnnfast_forecaster_free(rnnfast_forecaster* forecaster);
/* *width: series. *horizon: steps that can be forecast. *exogenous: columns that are known in advance. Any may be NULL.
 */
RNNFAST_C_API rnnfast_status rnnfast_forecaster_sizes(const rnnfast_forecaster* forecaster, size_t* width,
                                                      size_t* horizon, size_t* exogenous);
/* Where results go, each [k, width] or NULL; size: the capacity of each. */
typedef struct rnnfast_interval {
    double *median, *lower, *upper;
    size_t size;
} rnnfast_interval;
/* Medians and ends of the intervals of the k steps after a series [steps, width], or, with series NULL, after that of
 * the training. exogenous: [steps + k, exogenous], or [k, exogenous] with series NULL; NULL if the model has no such
 * columns. */
RNNFAST_C_API rnnfast_status rnnfast_predict_interval(const rnnfast_forecaster* forecaster, size_t k,
                                                      const double* series, size_t steps, const double* exogenous,
                                                      const rnnfast_interval* interval);

#ifdef __cplusplus
}
#endif

#endif
