#include "ops/softmax_loss.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/parallel.h"

namespace rnnfast::core {

namespace {

constexpr size_t most_logits =
    4u << 20;  // floats of logits that exist at a time, 16 MB: with 8 MB the weights are read more often, 5% slower
constexpr size_t least_rows =
    256;  // of a block of many classes: with 64, reading and writing dW takes as long as products
constexpr size_t row_grain = 64;     // of a block: whole panels of every ISA, so that the sums over blocks are the same
constexpr size_t class_chunk = 126;  // classes whose weights stay in L2 while all rows use them: 21 full tiles
constexpr size_t depth_chunk =
    512;  // words of classes whose weights and dz stay in L2 while dh is summed: 1,024 do not
constexpr size_t most_words = 1 << 15;  // bf16 words of a chunk's dz, which stay in L2 for dW

// A block of rows and its scratch. Logits and the transposed h lie in panels of `width` rows.
struct Block {
    size_t first, rows, panels;
    float* logits;  // [panels][V][width]
    float* h;       // [panels][H][width]: the words of h transposed, later dh transposed
    float* source;  // [H / width][words of panels * width][width]: h as the right-hand side of dW
    float* sums;    // [panels * width] x 4: maximum, sum, target logit, factor
    int32_t* targets;
    float* pairs;  // bf16: [panels][V / 2 rounded up][width] dz as the right-hand side of dh
    float* along;  // bf16: [threads][most_words] dz of a chunk as the left rows of dW
};

size_t halves(size_t count) { return (count + 1) / 2; }
bool in_chunks(const OutputLoss& l) { return l.pairs && pairs_in_chunks(*l.gemm); }

// Rows come in whole vectors of any ISA, and in whole units of a product over rows: those beyond the block's are zeros.
size_t row_unit(const OutputLoss& l) { return std::max(unit_block, l.gemm->terms * l.gemm->depth_unit); }

// Rows of a panel to compute.
size_t panel_rows(const OutputLoss& l, const Block& b, size_t panel, size_t width) {
    return std::min(width, round_up(b.rows - panel * width, row_unit(l)));
}

// Words of a panel's depth in `Block::h`, which later has a row for each hidden unit.
size_t depth_of_h(const OutputLoss& l) { return std::max(l.hidden, l.words); }

// Of a vector of rows from r on: their words transposed, zeros beyond the block's rows and beyond l.hidden.
void pack_rows(const Kernels& kernels, const OutputLoss& l, const Block& b, size_t r, const float* zeros) {
    constexpr size_t block = 64, most_lanes = unit_block;
    const size_t width = l.gemm->width, lanes = kernels.lanes, terms = l.gemm->terms, size = terms * l.words;
    const float *rows[most_lanes], *columns[most_lanes];
    for (size_t i = 0; i < lanes; ++i) rows[i] = r + i < b.rows ? l.h + (b.first + r + i) * l.h_stride : zeros;
    float* out = b.h + r / width * depth_of_h(l) * width + r % width;
    const auto transpose = kernels.product().pack;
    if (!l.gemm->along) return transpose({size, lanes, rows, out, width});
    for (size_t k = 0; k < size; k += block) {
        float words[most_lanes][block / 2] = {};
        for (size_t i = 0; i < lanes; ++i) {
            columns[i] = words[i];
            if (k < l.hidden) l.gemm->along(std::min(block, l.hidden - k), rows[i] + k, words[i]);
        }
        transpose({(std::min(block, size - k) + terms - 1) / terms, lanes, columns, out + k / terms * width, width});
    }
}

// Row r of the block as a row of dW's right-hand side; in bf16 the rows r and r + 1, zeros beyond the block's.
void pack_source(const OutputLoss& l, const Block& b, size_t width, size_t r) {
    const size_t terms = l.pairs ? 2 : 1, words = b.panels * width / terms;
    const float* row = l.h + (b.first + (r < b.rows ? r : 0)) * l.h_stride;
    for (size_t j = 0; j < l.hidden; j += width) {
        const size_t valid = r < b.rows ? std::min(width, l.hidden - j) : 0;
        float* target = b.source + j * words + r / terms * width;
        if (l.pairs && valid)
            l.gemm->across(valid, row + j, r + 1 < b.rows ? row + l.h_stride + j : nullptr, target);
        else
            std::copy_n(row + j, valid, target);
        std::fill(target + valid, target + width, 0.0f);
    }
}

void pack_block(const Kernels& kernels, const OutputLoss& l, const Block& b, Range panels, const float* zeros) {
    const size_t width = kernels.product().width;
    const bool gradient = l.dh != nullptr;
    for (size_t r = panels.begin * width; r < panels.end * width; ++r) {
        if (r % kernels.lanes == 0) pack_rows(kernels, l, b, r, zeros);
        b.targets[r] = r < b.rows ? l.targets[b.first + r] : -1;
        if (gradient && (!l.pairs || r % 2 == 0)) pack_source(l, b, width, r);
    }
}

// Whether all products of a panel's rows exist already.
bool known(const OutputLoss& l, const Block& b, size_t panel, size_t width) {
    const size_t first = panel * width, last = std::min(first + width, b.rows);
    return l.products && std::all_of(l.products + b.first + first, l.products + b.first + last,
                                     [](const float* row) { return row != nullptr; });
}

// ... then they are copied, with zeros beyond the block's rows.
void take_products(const OutputLoss& l, const Block& b, size_t panel, Range classes, size_t columns, const Rows& to) {
    for (size_t v = 0; v < classes.size(); ++v)
        for (size_t r = 0; r < columns; ++r) {
            const size_t row = panel * l.gemm->width + r;
            to.base[v * to.stride + r] = row < b.rows ? l.products[b.first + row][classes.begin + v] : 0.0f;
        }
}

// logits[v, r] = W[v] · h[r], without bias
void products(const OutputLoss& l, const Block& b, Range classes, const float* zeros) {
    const size_t width = l.gemm->width;
    for (size_t v = classes.begin; v < classes.end; v += class_chunk) {
        Gemm g;
        g.rows = std::min(class_chunk, classes.end - v);
        g.depth = l.words;
        g.a = {l.left + v * l.left_stride, l.left_stride, 0, 0};
        g.start = zeros;
        for (size_t p = 0; p < b.panels; ++p) {
            g.columns = panel_rows(l, b, p, width);
            g.panels = b.h + p * depth_of_h(l) * width;
            g.c = {b.logits + (p * l.vocabulary + v) * width, width, 0, 0};
            if (known(l, b, p, width))
                take_products(l, b, p, {v, v + g.rows}, g.columns, g.c);
            else
                l.gemm->run(g);
        }
    }
}

void softmax(const Kernels& kernels, const OutputLoss& l, const Block& b, Range vectors) {
    const size_t width = kernels.product().width, lanes = kernels.lanes, block_rows = b.panels * width;
    for (size_t i = vectors.begin; i < vectors.end; ++i) {
        const size_t r = i * lanes;
        SoftmaxLoss s;
        s.vocabulary = l.vocabulary;
        s.logits = b.logits + r / width * l.vocabulary * width + r % width;
        s.stride = width;
        s.bias = l.bias;
        s.targets = b.targets + r;
        s.weight = l.weight_per_row;
        s.gradient = l.dh != nullptr;
        s.maximum = b.sums + r;
        s.sum = s.maximum + block_rows;
        s.target_logit = s.sum + block_rows;
        s.factor = l.pairs ? s.target_logit + block_rows : nullptr;
        kernels.softmax_loss(s);
        for (size_t j = r; j < std::min(r + lanes, b.rows); ++j)
            l.nll[b.first + j] = b.targets[j] < 0 ? 0.0
                                                  : std::log(static_cast<double>(b.sums[block_rows + j])) +
                                                        static_cast<double>(b.sums[j]) -
                                                        static_cast<double>(b.sums[2 * block_rows + j]);
    }
}

// Some units of dh from dh^T.
void put_hidden_gradient(const Kernels& kernels, const OutputLoss& l, const Block& b, Range units) {
    const size_t width = kernels.product().width, lanes = kernels.lanes;
    for (size_t p = 0; p < b.panels; ++p) {
        const size_t rows = std::min(width, b.rows - p * width);
        const float *panel = b.h + p * depth_of_h(l) * width, *lines[unit_block];
        float* dh = l.dh + (b.first + p * width) * l.dh_stride;
        size_t k = units.begin;
        for (; k + lanes <= units.end; k += lanes) {
            for (size_t i = 0; i < lanes; ++i) lines[i] = panel + (k + i) * width;
            kernels.product().pack({rows, lanes, lines, dh + k, l.dh_stride});
        }
        for (; k < units.end; ++k)
            for (size_t r = 0; r < rows; ++r) dh[r * l.dh_stride + k] = panel[k * width + r];
    }
}

// dh^T = W^T dz, the rows of dh^T (hidden units) owned by threads
void hidden_gradient(const Kernels& kernels, const OutputLoss& l, const Block& b, Range units, const float* zeros) {
    const GemmKernel& kernel = l.pairs ? *l.gemm : kernels.product();
    const size_t width = kernel.width, words = l.pairs ? halves(l.vocabulary) : l.vocabulary;
    const float* right = l.pairs ? b.pairs : b.logits;
    Gemm g;
    g.rows = units.size();
    const size_t unit = kernel.depth_unit;
    g.step = in_chunks(l) ? 1 : l.pairs ? pairs_tile : l.hidden;
    if (in_chunks(l)) {
        g.inner = unit;
        g.outer_step = l.hidden * unit;
    }
    for (size_t v = 0; v < words && g.rows; v += depth_chunk) {
        g.depth = std::min(depth_chunk, words - v);
        if (in_chunks(l))
            g.a = {l.pairs + v * l.hidden + units.begin * unit, unit, 0, 0};
        else if (l.pairs)
            g.a = {l.pairs + units.begin * words + v * pairs_tile, 1, pairs_tile, words * pairs_tile};
        else
            g.a = {l.weight + v * l.hidden + units.begin, 1, 0, 0};
        g.start = v ? nullptr : zeros;
        for (size_t p = 0; p < b.panels; ++p) {
            g.columns = panel_rows(l, b, p, width);
            g.panels = right + (p * words + v) * width;
            g.c = {b.h + (p * depth_of_h(l) + units.begin) * width, width, 0, 0};
            kernel.run(g);
        }
    }
    put_hidden_gradient(kernels, l, b, units);
}

// Of a block's dW, all but the left rows.
Gemm weight_product(const OutputLoss& l, const Block& b, size_t width, size_t classes, size_t v, const float* zeros) {
    const size_t terms = l.pairs ? 2 : 1;
    Gemm g;
    g.rows = classes;
    g.depth = in_chunks(l) ? round_up(b.rows, row_unit(l)) / terms : (b.rows + terms - 1) / terms;
    g.columns = l.hidden;
    g.panels = b.source;
    g.panel_stride = b.panels * width / terms * width;
    g.start = b.first ? nullptr : zeros;
    g.c = {l.dweight + v * l.hidden, l.hidden, 0, 0};
    return g;
}

// dW = dz^T h over all blocks, the rows of dW (classes) owned by threads
void weight_gradient(const Kernels& kernels, const OutputLoss& l, const Block& b, Range classes, const float* zeros) {
    const size_t width = kernels.product().width;
    for (size_t v = classes.begin; v < classes.end; v += class_chunk) {
        Gemm g = weight_product(l, b, width, std::min(class_chunk, classes.end - v), v, zeros);
        g.a = {b.logits + v * width, width, 0, 0};
        g.inner = width;
        g.outer_step = l.vocabulary * width;
        kernels.product().run(g);
    }
    if (!l.dbias || classes.size() == 0) return;
    kernels.panel_row_sums(classes.size(), round_up(b.rows, unit_block), l.vocabulary * width, width,
                           b.logits + classes.begin * width, l.dbias + classes.begin);
}

// The same in bf16: dz becomes words for this product and for that of hidden_gradient, while a chunk of it is in L2.
void weight_gradient_of_words(const Kernels& kernels, const OutputLoss& l, const Block& b, Range classes,
                              const float* zeros, float* along) {
    const size_t width = l.gemm->width, words = b.panels * width / 2;
    const size_t chunk = std::min(class_chunk, std::max<size_t>(1, most_words / (6 * words)) * 6);
    float no_bias[class_chunk] = {};
    for (size_t v = classes.begin; v < classes.end; v += chunk) {
        LossWords w;
        w.first = v;
        w.classes = std::min(chunk, classes.end - v);
        w.rows = round_up(b.rows, row_unit(l));
        w.width = width;
        w.exponentials = b.logits + v * width;
        w.plane = l.vocabulary * width;
        w.factor = b.sums + 3 * b.panels * width;
        w.targets = b.targets;
        w.weight = l.weight_per_row;
        w.across = b.pairs + v / 2 * width;
        w.across_plane = halves(l.vocabulary) * width;
        w.along = along;
        w.along_stride = words;
        w.sums = l.dbias ? l.dbias + v : no_bias;
        kernels.loss_words(w);
        Gemm g = weight_product(l, b, width, w.classes, v, zeros);
        g.a = {along, words, 0, 0};
        l.gemm->run(g);
    }
}

void gradients(const Kernels& kernels, const OutputLoss& l, const Block& b, const Team& team, const float* zeros) {
    const Range classes = split(l.vocabulary, team.size, team.index, 6);
    const Range units = split(l.hidden, team.size, team.index, in_chunks(l) ? 2 * unit_block : pairs_tile);
    if (b.first == 0 && l.dbias) std::fill_n(l.dbias + classes.begin, classes.size(), 0.0f);
    if (l.pairs) {
        weight_gradient_of_words(kernels, l, b, classes, zeros, b.along + team.index * most_words);
        team.wait();
        hidden_gradient(kernels, l, b, units, zeros);
    } else {
        hidden_gradient(kernels, l, b, units, zeros);
        weight_gradient(kernels, l, b, classes, zeros);
    }
    team.wait();
}

}  // namespace

void output_loss(const Kernels& kernels, const OutputLoss& l) {
    const size_t width = kernels.product().width, hidden = l.hidden;
    const bool gradient = l.dh != nullptr;
    const size_t most = std::max(least_rows, most_logits / (l.vocabulary * row_grain) * row_grain);
    const size_t block_rows = std::min(round_up(l.rows, width), most);
    const double flops =
        (gradient ? 6.0 : 2.0) * static_cast<double>(l.rows) * static_cast<double>(l.vocabulary * hidden);
    const size_t threads = threads_for(flops);
    const size_t parts[] = {block_rows * l.vocabulary,
                            block_rows * depth_of_h(l),
                            gradient ? block_rows * round_up(hidden, width) : 0,
                            4 * block_rows,
                            block_rows,
                            gradient && l.pairs ? block_rows * halves(l.vocabulary) : 0,
                            gradient && l.pairs ? threads * most_words : 0,
                            round_up(std::max(hidden, width), width)};
    size_t floats = 0;
    for (const size_t part : parts) floats += round_up(part, alignment / 4);
    l.scratch->reserve(floats);
    float* at = l.scratch->data();
    const auto take = [&](size_t part) { return std::exchange(at, at + round_up(part, alignment / 4)); };
    Block block{0,
                0,
                0,
                take(parts[0]),
                take(parts[1]),
                take(parts[2]),
                take(parts[3]),
                reinterpret_cast<int32_t*>(take(parts[4])),
                take(parts[5]),
                take(parts[6])};
    float* zeros = take(parts[7]);
    std::fill_n(zeros, parts[7], 0.0f);

    parallel(threads, [&](const Team& team) {
        const Range classes = split(l.vocabulary, team.size, team.index, 6);
        Block b = block;
        for (; b.first < l.rows; b.first += block_rows) {
            b.rows = std::min(block_rows, l.rows - b.first);
            b.panels = (b.rows + width - 1) / width;
            pack_block(kernels, l, b, split(b.panels, team.size, team.index), zeros);
            team.wait();
            products(l, b, classes, zeros);
            team.wait();
            softmax(kernels, l, b, split(round_up(b.rows, row_unit(l)) / kernels.lanes, team.size, team.index));
            team.wait();
            if (gradient) gradients(kernels, l, b, team, zeros);
        }
    });
}

void nll_of_logits(const Kernels& kernels, const float* logits, size_t rows, size_t vocabulary, const int32_t* targets,
                   double* nll, Buffer& scratch) {
    const size_t lanes = kernels.lanes;  // rows of one call of the kernel
    scratch.reserve((vocabulary + 4) * lanes);
    float* transposed = scratch.data();
    SoftmaxLoss s;
    s.vocabulary = vocabulary;
    s.logits = transposed;
    s.stride = lanes;
    s.maximum = transposed + vocabulary * lanes;
    s.sum = s.maximum + lanes;
    s.target_logit = s.sum + lanes;
    auto* lane_targets = reinterpret_cast<int32_t*>(s.target_logit + lanes);
    s.targets = lane_targets;
    for (size_t first = 0; first < rows; first += lanes) {
        const size_t valid = std::min(lanes, rows - first);
        for (size_t i = 0; i < lanes; ++i) lane_targets[i] = i < valid ? targets[first + i] : -1;
        for (size_t v = 0; v < vocabulary; ++v)
            for (size_t i = 0; i < lanes; ++i)
                transposed[v * lanes + i] = i < valid ? logits[(first + i) * vocabulary + v] : 0.0f;
        kernels.softmax_loss(s);
        for (size_t i = 0; i < valid; ++i)
            nll[first + i] = targets[first + i] < 0
                                 ? 0.0
                                 : std::log(static_cast<double>(s.sum[i])) + static_cast<double>(s.maximum[i]) -
                                       static_cast<double>(s.target_logit[i]);
    }
}

double log_sum_exp(const Kernels& kernels, const float* logits, size_t vocabulary) {
    float maximum, sum;
    kernels.exp_sum(vocabulary, logits, &maximum, &sum);
    return std::log(static_cast<double>(sum)) + static_cast<double>(maximum);
}

}  // namespace rnnfast::core
