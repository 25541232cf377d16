// The kernels of every ISA: serial, on raw pointers. This file is the contract; kernels.inc implements it.
// T steps, N rows, D inputs, H hidden units, G gates, V vocabulary, K depth of a product.
#pragma once

#include <cstddef>
#include <cstdint>

// The text of a macro, such as the name of a table: RNNFAST_TEXT(RNNFAST_ISA).
#define RNNFAST_TEXT_(x) #x
#define RNNFAST_TEXT(x) RNNFAST_TEXT_(x)

namespace rnnfast::core {

// The gates of 16 units form a block: a gate row is [H/16 blocks][G gates][16 units].
constexpr size_t unit_block = 16;

// Rows of a matrix in memory: row r starts at base + (r / run) * jump + (r % run) * stride.
// run = 0 means one evenly strided run. The rows of a thread over several steps are such a pattern.
struct Rows {
    float* base = nullptr;
    size_t stride = 0;
    size_t run = 0;
    size_t jump = 0;
};

struct ConstRows {
    const float* base = nullptr;
    size_t stride = 0;
    size_t run = 0;
    size_t jump = 0;
};

// C[r, j] = start[j] + sum over k of A[r, k] * B[k, j], k ascending, one fused multiply-add per term: the result
// of a row depends only on that row, with any tiling. start = nullptr continues from the contents of C.
// In a low precision A and B are 32-bit words of several terms along k, and depth, step, inner and strides count words.
struct Gemm {
    size_t rows = 0;
    size_t depth = 0;
    size_t columns = 0;  // columns of C to write, at most panels * panel width
    ConstRows a;         // A[r, k] = row(r)[(k / inner) * outer_step + (k % inner) * step]
    size_t step = 1;
    size_t inner = 0;  // 0: depth in one run
    size_t outer_step = 0;
    const float* panels = nullptr;  // B: [ceil(columns / width)][depth][width]
    size_t panel_stride = 0;        // floats from one panel to the next; 0: depth * width
    const float* start = nullptr;   // [columns padded to whole panels]
    Rows c;
};

// One tile of one time step of a cell; rows x units, units is a multiple of the block except at the end of the layer.
struct CellForward {
    size_t rows = 0;
    size_t units = 0;
    bool save = false;       // keep the activated gates in `gates` for backward
    float* gates = nullptr;  // [rows, gate_stride] in: the input part; out (if save): the activated gates
    size_t gate_stride = 0;
    const float* recurrent = nullptr;  // [rows, recurrent_stride] the recurrent part, same order as gates, if any
    size_t recurrent_stride = 0;
    const float* h_prev = nullptr;
    size_t h_prev_stride = 0;
    float* h = nullptr;
    size_t h_stride = 0;
    const float* c_prev = nullptr;  // rows padded to whole blocks, as all c and extra are
    float* c = nullptr;
    size_t c_prev_stride = 0, c_stride = 0;
    // GRU: the recurrent part of n before the reset gate, if save; with the reset before the product: r h, which it
    // reads
    float* extra = nullptr;
    size_t extra_stride = 0;
    const float* x = nullptr;  // SRU: the layer's input, unit by unit
    size_t x_stride = 0;
    const float* state_weights = nullptr;  // [2 or 3, padded H], how gates read c: SRU, LSTM with peepholes
    size_t state_weights_stride = 0;
};

struct CellBackward {
    size_t rows = 0;
    size_t units = 0;
    float* gates = nullptr;  // [rows, gate_stride] in: activated gates; out: gradient of the recurrent part
    size_t gate_stride = 0;
    const float* dh = nullptr;  // [rows, dh_stride] gradient of h from the recurrent product of the next step, if any
    size_t dh_stride = 0;
    const float* dy = nullptr;  // gradient of this step's output, or nullptr
    size_t dy_stride = 0;
    float* dh_direct = nullptr;  // in and out: the part of dh that bypasses the gates (GRU)
    size_t dh_direct_stride = 0;
    const float* h_prev = nullptr;
    size_t h_prev_stride = 0;
    const float* c = nullptr;
    const float* c_prev = nullptr;
    size_t c_stride = 0, c_prev_stride = 0;
    float* dc = nullptr;  // in: gradient of c; out: of c_prev
    size_t dc_stride = 0;
    float* extra = nullptr;  // GRU in: the saved pre-reset part; out (reset before: only): gradient of n's input part
    size_t extra_stride = 0;
    const float* x = nullptr;  // SRU
    float* dx = nullptr;       // SRU out: the part of the input's gradient that bypasses the gates, or nullptr
    size_t x_stride = 0, dx_stride = 0;
    const float* state_weights = nullptr;
    size_t state_weights_stride = 0;
};

// 0 in builds without training, which leave out what only training needs; CMake's option of this name sets it.
#ifndef RNNFAST_TRAINING
#define RNNFAST_TRAINING 1
#endif
constexpr bool training = RNNFAST_TRAINING != 0;

struct CellKernels {
    void (*forward)(const CellForward&);
    void (*backward)(const CellBackward&);
};

// Logits of R rows are in panels [R / width][V][width]: a vector holds the same class of `lanes` rows, so sums over
// the vocabulary need no horizontal operation. One call processes the rows of one vector.
struct SoftmaxLoss {
    size_t vocabulary = 0;
    float* logits = nullptr;           // in: products without bias; out (if gradient): (softmax - one_hot) * weight
    size_t stride = 0;                 // floats from one class to the next
    const float* bias = nullptr;       // [V] or nullptr
    const int32_t* targets = nullptr;  // [lanes]; negative: the row is ignored
    float weight = 0;                  // of each row in the gradient
    bool gradient = false;
    float* maximum = nullptr;       // [lanes] out
    float* sum = nullptr;           // [lanes] out: sum of e^(logit - maximum)
    float* target_logit = nullptr;  // [lanes] out
    // [lanes] out, weight / sum of each row: then logits are left as e^(logit - maximum), for LossWords
    float* factor = nullptr;
};

// The gradients of some classes' logits, (softmax - one_hot) * weight, as bf16 words for two products: one adds over
// classes, the other over rows.
struct LossWords {
    size_t first = 0, classes = 0;        // first: an even class
    size_t rows = 0, width = 0;           // rows: whole blocks of 16, in panels of this width
    const float* exponentials = nullptr;  // [panels][classes][width] e^(logit - maximum)
    size_t plane = 0;                     // floats from one panel to the next
    const float* factor = nullptr;        // [rows]
    const int32_t* targets = nullptr;     // [rows]; negative: the row is ignored, its factor is 0
    float weight = 0;
    float* across = nullptr;  // [panels][classes / 2 rounded up][width] out: words (class 2i, class 2i + 1)
    size_t across_plane = 0;
    float* along = nullptr;  // [classes, along_stride] out: words (row 2i, row 2i + 1)
    size_t along_stride = 0;
    float* sums = nullptr;  // [classes], gradients before rounding are added over the rows, in one order on every ISA
};

// Scores of a block of keys, transposed: [keys, attention_queries], so that a vector holds the same key of `lanes`
// queries.
constexpr size_t attention_queries = 64;
struct AttentionBlock {
    size_t keys = 0;
    size_t queries = 0;                // whole blocks of 16
    float* scores = nullptr;           // out: e^(score - maximum), 0 where a query does not see a key
    const int32_t* visible = nullptr;  // [queries] number of these keys that each query sees; nullptr: all
    float* maximum = nullptr;          // [queries] in and out, over all blocks so far
    float* sum = nullptr;              // [queries] in and out: of e^(score - maximum)
    float* rescale = nullptr;          // [queries] out: the factor of all earlier sums
};

struct AttentionGradient {
    size_t keys = 0;
    size_t queries = 0;
    float* scores = nullptr;    // in: scores; out: the softmax's weights
    float* dweights = nullptr;  // in: gradient of the weights; out: of the scores
    const int32_t* visible = nullptr;
    const float *maximum = nullptr, *inverse = nullptr;  // [queries] of the whole row; 1 / sum
    const float* delta = nullptr;                        // [queries] sum over keys of weight * dweight
};

// sums[r] = x[r, :] · y[r, :] with x in panels
struct RowDots {
    size_t rows = 0, columns = 0;
    const float* panels = nullptr;  // [columns / width][rows][width]
    size_t width = 0, plane = 0;    // width: whole blocks of 16; plane: floats from one panel to the next
    const float* y = nullptr;
    size_t y_stride = 0;
    float* sums = nullptr;
};

// y = (add ? y : 0) + sum over r of weights[r] * x[r, :], r ascending, one fused multiply-add per term
struct WeightedRows {
    size_t rows = 0, columns = 0;
    const float* x = nullptr;
    size_t x_stride = 0;
    const float* weights = nullptr;  // [rows]
    bool add = false;
    float* y = nullptr;
};

// A panel of a product's right-hand side from its columns: out[k * stride + j] = columns[j][k].
struct PackPanel {
    size_t depth = 0, width = 0;  // width: whole vectors of any ISA
    const float* const* columns = nullptr;
    float* out = nullptr;
    size_t stride = 0;  // 0: width
};

// Of one row with a B that stays in the caller's order: C[j] = start[j] + sum over k of a[k] * B[k, j], with Gemm's
// bits.
struct UnpackedProduct {
    size_t depth = 0, columns = 0;        // depth: at least 1
    const float* a = nullptr;             // [depth]
    const float* const* lines = nullptr;  // the columns of B, or its rows ...
    size_t offset = 0;                    // ... from this column on
    const float* start = nullptr;         // [columns]; nullptr continues from the contents of C
    float* c = nullptr;                   // [columns]
};

// One query with its keys: scores[j] = sum over u of v[u] * tanh(query[u] + key_j[u]).
struct AdditiveScores {
    size_t keys = 0, units = 0;
    const float* key = nullptr;  // [keys, key_stride]
    size_t key_stride = 0;
    const float *query = nullptr, *v = nullptr;  // [units]
    float* scores = nullptr;                     // [keys] out
};

struct AdditiveGradient {
    size_t keys = 0, units = 0;
    const float* key = nullptr;
    size_t key_stride = 0;
    const float *query = nullptr, *v = nullptr;
    const float* dscores = nullptr;          // [keys]
    float* dkey = nullptr;                   // like key, added to
    float *dquery = nullptr, *dv = nullptr;  // [units] out; added to
};

// Rows [rows, size] without gaps.
struct LayerNormForward {
    size_t rows = 0, size = 0;
    const float* x = nullptr;
    float epsilon = 0;
    bool centered = true;                            // RMSNorm: false, as if the mean were 0
    const float *weight = nullptr, *bias = nullptr;  // [size] or nullptr
    float* y = nullptr;
};

struct LayerNormBackward {
    size_t rows = 0, size = 0;
    const float *x = nullptr, *dy = nullptr;
    float epsilon = 0;
    bool centered = true;
    const float* weight = nullptr;              // [size] or nullptr
    float *mean = nullptr, *inverse = nullptr;  // [rows] of x; 1 / sqrt(variance + epsilon)
    float* dx = nullptr;                        // out, or nullptr
};

// Columns of rows [.., size] normalized over all rows. places: the rows, or nullptr: all of them, 0 to rows - 1.
struct BatchNorm {
    size_t rows = 0, size = 0;
    const size_t* places = nullptr;  // [rows]
    const float *x = nullptr, *dy = nullptr;
    float *mean = nullptr, *variance = nullptr;       // [size], as all of these
    const float *scale = nullptr, *bias = nullptr;    // weight / sqrt(variance + epsilon); nullptr: no bias
    float *y = nullptr, *dx = nullptr;                // [.., size]
    float *sum_dy = nullptr, *sum_dy_x = nullptr;     // [size]
    const float *offset = nullptr, *slope = nullptr;  // [size]
};

// One row of several steps: y = sum over t of softmax_t(weight . x_t) x_t.
struct AttentionPool {
    size_t steps = 0, width = 0;
    const float* x = nullptr;  // of the first step
    size_t stride = 0;         // floats from one step to the next
    const float* weight = nullptr;
    float* state = nullptr;  // [width + 2], zeros before the first step
    float* y = nullptr;      // [width]
    const float* dy = nullptr;
    float* dx = nullptr;       // laid out as x, or nullptr
    float* dscores = nullptr;  // one a step, score_stride apart
    size_t score_stride = 0;
};

// Rows [rows, size] without gaps: y = softmax(x), or its logarithm. y may be x, and dx may be dy.
struct RowSoftmax {
    size_t rows = 0, size = 0;
    bool logarithm = false;
    const float* x = nullptr;   // forward
    float* y = nullptr;         // forward: out; backward: in
    const float* dy = nullptr;  // backward
    float* dx = nullptr;        // backward: out
};

struct AdamStep {
    size_t size = 0;
    float* weight = nullptr;
    const float* grad = nullptr;
    float* first = nullptr;   // running mean of the gradient
    float* second = nullptr;  // running mean of its square
    float learning_rate = 0, beta1 = 0, beta2 = 0, epsilon = 0;
    float rest1 = 1, rest2 = 1;                   // 1 - beta1, 1 - beta2
    float weight_decay = 0;                       // added to the gradient (Adam)
    float decoupled_decay = 0;                    // learning_rate * decay, subtracted from the weight (AdamW)
    float correction1 = 1, correction2_sqrt = 1;  // 1 - beta1^t, sqrt(1 - beta2^t)
};

struct SgdStep {
    size_t size = 0;
    float* weight = nullptr;
    const float* grad = nullptr;
    float* velocity = nullptr;  // nullptr without momentum
    float learning_rate = 0, momentum = 0, weight_decay = 0;
    float dampening_scale = 1;  // 1 - dampening, or 1 at the first step
    bool nesterov = false;
};

// What a function of numbers depends on besides its argument; see pointwise.h.
struct PointwiseShape {
    float alpha = 0, beta = 0;
};
// y = f(x) element by element; y may be x. backward: dx = dy f'(x), from x or from y, whichever the function needs; dx
// may be dy.
struct PointwiseKernels {
    void (*forward)(PointwiseShape shape, size_t size, const float* x, float* y);
    void (*backward)(PointwiseShape shape, size_t size, const float* x_or_y, const float* dy, float* dx);
};
enum PointwiseIndex {
    pointwise_relu,
    pointwise_leaky_relu,
    pointwise_elu,
    pointwise_tanh,
    pointwise_sigmoid,
    pointwise_hard_sigmoid,
    pointwise_silu,
    pointwise_gelu,
    pointwise_gelu_tanh,
    pointwise_softplus,
    pointwise_clip,
    pointwise_count
};

enum CellIndex {
    cell_rnn_tanh,
    cell_rnn_relu,
    cell_lstm,
    cell_lstm_peephole,
    cell_gru,
    cell_mgu,
    cell_gru_reset_before,
    cell_gru_reset_before_second,
    cell_mingru,
    cell_minlstm,
    cell_sru,
    cell_sru_projected,
    cell_qrnn,
    cell_count
};

// int8: converts the 32-bit integer sums in C to floats, c[r, j] = sum * (row_scale[r] * column_scale[j]) + start[j]
struct Rescale {
    size_t rows = 0, columns = 0;
    const float* row_scales = nullptr;
    size_t row_scale_stride = 0;
    const float *column_scales = nullptr, *start = nullptr;  // [columns padded to whole panels]
    Rows c;
};

// Of one row with a B most of whose blocks, 16 columns by a word of the depth, are zeros and left out. A strip has 16
// columns and a list of blocks; the strips of a group have equally many, which lie side by side. With the same values
// in a, C has Gemm's bits, as long as no sum is -0 and a is finite.
constexpr size_t sparse_group = 4;    // strips
constexpr size_t sparse_window = 32;  // strips whose groups are those with about equally many blocks
struct SparseProduct {
    size_t begin = 0, end = 0;         // strips
    size_t depth = 0;                  // of a, in words
    const float* a = nullptr;          // [depth] words
    size_t groups = 0;                 // all
    const uint32_t* first = nullptr;   // [groups + 1] where the blocks of each group begin; of a window, the most first
    const uint32_t* strips = nullptr;  // [groups][4] that are in each; numbers beyond the matrix stand for no strip
    const float* blocks = nullptr;     // [blocks][4][16]
    // [blocks][4] of words in a; or [blocks][4][terms] of terms. 16 bits each, four in a number, the first one lowest
    const uint64_t* places = nullptr;
    const float* start = nullptr;  // [(end - begin) * 16]
    float* c = nullptr;            // [(end - begin) * 16]
};

struct GemmKernel {
    size_t width;  // columns of a panel
    size_t terms;  // numbers along k in a 32-bit word: 1 in f32, 2 in bf16, 4 in int8
    void (*run)(const Gemm&);
    // How words are packed, nullptr in f32: of one row along k, words[i] = (x[2i], x[2i + 1]), zeros beyond size; and
    // of two rows k and k + 1, words[i] = (even[i], odd[i]), zeros for odd = nullptr.
    void (*along)(size_t size, const float* x, float* words);
    // In int8, the scale of a row follows its words, and `across` is nullptr.
    void (*across)(size_t size, const float* even, const float* odd, float* words);
    void (*rescale)(const Rescale&);                         // int8, else nullptr: converts what run leaves in C
    void (*pack)(const PackPanel&) = nullptr;                // f32 only, as the following
    void (*with_columns)(const UnpackedProduct&) = nullptr;  // columns: a multiple of the block
    void (*with_rows)(const UnpackedProduct&) = nullptr;
    // false: C is not what Gemm gives. In the second one, the terms of a word lie anywhere in a.
    bool (*sparse_words)(const SparseProduct&) = nullptr;
    bool (*sparse_terms)(const SparseProduct&) = nullptr;
    // Words along k that the product takes together. With more than one, it is fastest if depths are multiples of it,
    // with zeros at the end, and if that many words of a row of A lie side by side.
    size_t depth_unit = 1;
};

// Rows and columns of the table of products. Only f32 has the narrow shapes, which the heads of attention use.
enum GemmPrecision { gemm_f32, gemm_bf16, gemm_int8, gemm_precisions };
enum GemmShape {
    gemm_wide,  // panels whose width is a power of two
    gemm_of_3,  // panels that fit blocks of three gates
    gemm_32,    // panels of 32 and 16 columns, or the nearest width of this ISA
    gemm_16,
    gemm_shapes
};

struct Kernels {
    const char* name;
    size_t lanes;  // floats in a vector
    GemmKernel gemm[gemm_precisions][gemm_shapes];
    const GemmKernel& product() const { return gemm[gemm_f32][gemm_wide]; }
    CellKernels cells[cell_count];
    PointwiseKernels pointwise[pointwise_count];
    void (*softmax_loss)(const SoftmaxLoss&);
    void (*loss_words)(const LossWords&);
    // The largest of a row of logits, and the sum of e^(x - largest)
    void (*exp_sum)(size_t size, const float* x, float* maximum, float* sum);
    void (*adam)(const AdamStep&);
    void (*sgd)(const SgdStep&);
    void (*add)(size_t size, const float* x, float* y);                       // y += x
    void (*multiply)(size_t size, const float* a, const float* b, float* y);  // y = a * b
    void (*scale)(size_t size, float factor, float* x);                       // x *= factor
    void (*clip)(size_t size, float limit, float* x);                         // x = min(max(x, -limit), limit)
    // sums[v] += x[j / width * panel_stride + v * width + j % width] over columns j, a multiple of 16, in one order on
    // every ISA
    void (*panel_row_sums)(size_t rows, size_t columns, size_t panel_stride, size_t width, const float* x, float* sums);
    void (*column_sums)(size_t rows, size_t columns, const float* x, size_t stride,
                        float* sums);  // sums += rows of x, in order
    void (*attention_softmax)(const AttentionBlock&);
    void (*attention_softmax_row)(const AttentionBlock&);  // one query, scores [keys]
    void (*attention_gradient)(const AttentionGradient&);
    void (*row_dots)(const RowDots&);
    void (*weighted_rows)(const WeightedRows&);
    void (*additive_scores)(const AdditiveScores&);
    void (*additive_gradient)(const AdditiveGradient&);
    // One query: dweights in: gradient of the softmax's weights; out: of the scores.
    void (*softmax_gradient)(size_t keys, const float* weights, float* dweights);
    // Of the columns from `first` to `last`: mean and variance; sum_dy and sum_dy_x
    void (*batch_statistics)(const BatchNorm&, size_t first, size_t last);
    void (*batch_norm_sums)(const BatchNorm&, size_t first, size_t last);
    void (*batch_norm)(const BatchNorm&);
    void (*batch_norm_gradient)(const BatchNorm&);
    void (*attention_pool)(const AttentionPool&);
    void (*attention_pool_gradient)(const AttentionPool&);
    void (*row_softmax)(const RowSoftmax&);
    void (*row_softmax_gradient)(const RowSoftmax&);
    void (*layer_norm)(const LayerNormForward&);
    void (*layer_norm_gradient)(const LayerNormBackward&);  // writes mean, inverse and dx ...
    // ... which this one reads: dweight += sum over rows, for columns from `first` to `last`
    void (*layer_norm_weight_gradient)(const LayerNormBackward&, size_t first, size_t last, float* dweight);
    void (*tanh)(size_t size, float* x);                            // x = tanh(x)
    void (*tanh_gradient)(size_t size, const float* y, float* dy);  // dy *= 1 - y^2, y = tanh(x)
    // The best rates of a core, for benchmarks; see rates.h.
    double (*multiply_add_rate)(size_t rounds, const float* in, float* out);
    double (*bf16_rate)(size_t rounds, const float* in, float* out);
    float (*read_rate)(size_t size, size_t passes, const float* x);
};

}  // namespace rnnfast::core
