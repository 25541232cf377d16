#include "layers/softmax_output.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/parallel.h"

namespace rnnfast::core {

namespace {

constexpr size_t logit_rows = 128;  // whose logits exist at a time in nll()

}  // namespace

OutputLayer::OutputLayer(const Kernels& kernels, Weights weights, Parameter* weight, Parameter* bias)
    : kernels_(&kernels),
      weights_(weights),
      weight_(weight),
      bias_(bias),
      linear_([&kernels, weights, inputs = inputs(), outputs = vocabulary()] {
          return PackedLinear(kernels, weights, inputs, outputs);
      }) {}

void OutputLayer::weights_changed() {
    linear_.weights_changed();
    screen_.weights_changed();
    words_.weights_changed();
    calls_->store(0, std::memory_order_relaxed);
}

void OutputLayer::pack(const FileValues& values, bool for_argmax) {
    Buffer weight, bias;
    const float *w = values(*weight_, weight), *b = bias_ ? values(*bias_, bias) : nullptr;
    linear_.get([&](PackedLinear& p) { p.pack(w, b); });
    if (!for_argmax) return;
    if (screened(1)) screen_.get([&](LargestOutputs& p) { p.pack(*kernels_, w, b, inputs(), vocabulary()); });
    copy_values(*bias_, values);
}

const PackedLinear& OutputLayer::linear() const {
    return linear_.get([&](PackedLinear& p) { p.pack(weight_->value.data(), bias()); });
}

const LargestOutputs& OutputLayer::screen() const {
    return screen_.get([&](LargestOutputs& p) {
        if (weight_->value.size()) return p.pack(*kernels_, weight_->value.data(), bias(), inputs(), vocabulary());
        Buffer weight(inputs() * vocabulary(), Buffer::Uninitialised{});  // of a layer that only runs
        linear().unpack(weight.data());
        p.pack(*kernels_, weight.data(), linear().bias(), inputs(), vocabulary());
    });
}

namespace {

// Below this many classes the other layers take nearly all of the time, and gradients in f32 are more accurate.
constexpr size_t least_classes_for_bf16 = 1024;

// Rows v and v + 1 of the weight as words in OutputLoss::pairs; a row of zeros beyond the last.
void pack_pair(const GemmKernel& gemm, const float* row, size_t width, size_t classes, size_t v, float* pairs) {
    constexpr size_t part = 16 * pairs_tile;
    float words[part];
    for (size_t k = 0; k < width; k += part) {
        const size_t count = std::min(part, width - k);
        gemm.across(count, row + k, v + 1 < classes ? row + width + k : nullptr, words);
        for (size_t i = 0; i < count; i += pairs_tile)
            std::copy_n(words + i, std::min(pairs_tile, count - i),
                        pairs + ((k + i) / pairs_tile * ((classes + 1) / 2) + v / 2) * pairs_tile);
    }
}

// The same in chunks: rows from v on, of as many pairs as a chunk has.
void pack_chunk(const GemmKernel& gemm, const GemmKernel& f32, const float* weight, size_t width, size_t classes,
                size_t v, float* pairs) {
    constexpr size_t part = 64, most_words = 16;
    float words[most_words][part];
    const float* columns[most_words];
    const size_t unit = gemm.depth_unit;
    for (size_t k = 0; k < width; k += part) {
        const size_t count = std::min(part, width - k);
        for (size_t i = 0; i < unit; ++i) {
            const size_t row = v + 2 * i;
            const float* from = weight + row * width + k;
            columns[i] = words[i];
            if (row < classes)
                gemm.across(count, from, row + 1 < classes ? from + width : nullptr, words[i]);
            else
                std::fill_n(words[i], count, 0.0f);
        }
        f32.pack({count, unit, columns, pairs + (v / 2 * width + k * unit)});
    }
}

}  // namespace

const OutputLayer::WeightWords& OutputLayer::weight_words(const GemmKernel& gemm) const {
    return words_.get([&](WeightWords& p) {
        const size_t width = inputs(), classes = vocabulary();
        const float* weight = weight_->value.data();
        const bool pairs = gemm.across && classes >= least_classes_for_bf16;
        const size_t words = (width + gemm.terms - 1) / gemm.terms, unit = gemm.depth_unit;
        p.words = round_up(words, unit);
        p.rows.reserve(classes * p.words);
        const bool chunks = pairs && pairs_in_chunks(gemm);
        p.pairs.reserve(chunks  ? round_up((classes + 1) / 2, unit) * width
                        : pairs ? (classes + 1) / 2 * round_up(width, pairs_tile)
                                : 0);
        parallel(threads_for(static_cast<double>(classes * width)), [&](const Team& team) {
            const Range own = split(classes, team.size, team.index, 2 * unit);
            for (size_t v = own.begin; v < own.end; ++v) {
                float* row = p.rows.data() + v * p.words;
                gemm.along(width, weight + v * width, row);
                std::fill_n(row + words, p.words - words, 0.0f);
                if (chunks && v % (2 * unit) == 0)
                    pack_chunk(gemm, kernels_->product(), weight, width, classes, v, p.pairs.data());
                if (pairs && !chunks && v % 2 == 0)
                    pack_pair(gemm, weight + v * width, width, classes, v, p.pairs.data());
            }
        });
    });
}

void OutputLayer::logits(const float* z, size_t rows, float* logits, Buffer& scratch, size_t most_threads) const {
    linear().forward(z, inputs(), rows, logits, scratch, most_threads);
}

namespace {

// Argmax of x + bias; -1 unless all of them are finite or minus infinity.
int32_t row_argmax(const float* x, const float* bias, size_t size) {
    size_t best = 0;
    bool nan = false;
    for (size_t v = 0; v < size; ++v) {
        const float logit = x[v] + bias[v];
        nan |= logit != logit;
        if (logit > x[best] + bias[best]) best = v;
    }
    return !nan && std::isfinite(x[best] + bias[best]) ? static_cast<int32_t>(best) : -1;
}

}  // namespace

// With many rows the weights are read once for all, and with few weights from a near cache: then all logits are had as
// fast.
bool OutputLayer::screened(size_t rows) const {
    constexpr size_t most_rows = 8, least_weights = 1 << 16, deepest = 1 << 16;
    return weights_ == Weights::f32 && rows <= most_rows && vocabulary() * inputs() >= least_weights &&
           inputs() <= deepest;
}

void OutputLayer::argmax(const float* z, size_t rows, const std::vector<int32_t>& never, int32_t* tokens,
                         LargestMemory& memory, float* products) const {
    if (!products && screened(rows)) return screen().argmax(linear(), z, rows, never, tokens, memory);
    memory.outputs.reserve(products ? 0 : rows * vocabulary());
    float* all = products ? products : memory.outputs.data();
    linear().product(z, inputs(), rows, all, memory.left);
    parallel(threads_for(static_cast<double>(rows * vocabulary())), [&](const Team& team) {
        const Range own = split(rows, team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r) {
            float* row = all + r * vocabulary();
            for (const int32_t id : never) row[id] = -std::numeric_limits<float>::infinity();
            tokens[r] = row_argmax(row, bias_->value.data(), vocabulary());
        }
    });
}

// Packing for the screen takes as long as it saves in 30 to 70 calls.
void OutputLayer::largest_logits(const float* z, size_t count, float* logits, LargestMemory& memory,
                                 size_t most_threads) const {
    constexpr size_t least_share = 64, least_calls = 64, least_weights = 1 << 19;
    // Of a larger share of all, too many have a chance; fewer weights are read fast enough.
    const bool few = count > 0 && count * least_share <= vocabulary() && vocabulary() * inputs() >= least_weights &&
                     bias_ && screened(1);
    if (!few || calls_->fetch_add(1, std::memory_order_relaxed) < least_calls)
        return this->logits(z, 1, logits, memory.left, most_threads);
    screen().largest({linear(), weight_->value.data(), z}, count, logits, memory, most_threads);
}

void OutputLayer::nll(const float* z, size_t rows, const int32_t* targets, double* nll, LossMemory& memory) const {
    memory.logits.reserve(std::min(rows, logit_rows) * vocabulary());
    for (size_t r = 0; r < rows; r += logit_rows) {
        const size_t count = std::min(logit_rows, rows - r);
        logits(z + r * inputs(), count, memory.logits.data(), memory.scratch);
        nll_of_logits(*kernels_, memory.logits.data(), count, vocabulary(), targets + r, nll + r, memory.scratch);
    }
}

float weight_in_mean(const int32_t* targets, size_t rows) {
    const auto counted = std::count_if(targets, targets + rows, [](int32_t id) { return id >= 0; });
    return counted ? 1.0f / static_cast<float>(counted) : 0.0f;
}

OutputLoss OutputLayer::loss_of(const float* z, size_t rows, const int32_t* targets, double* nll,
                                LossMemory& memory) const {
    OutputLoss l{};
    l.rows = rows;
    l.hidden = inputs();
    l.vocabulary = vocabulary();
    l.h = z;
    l.h_stride = inputs();
    l.weight = l.left = weight_->value.data();
    l.left_stride = l.words = inputs();
    l.gemm = &gemm_for(*kernels_, weights_);
    if (l.gemm->along) {
        const WeightWords& words = weight_words(*l.gemm);
        l.left = words.rows.data();
        l.left_stride = l.words = words.words;
        l.pairs = words.pairs.size() ? words.pairs.data() : nullptr;
    }
    l.bias = bias();
    l.targets = targets;
    l.nll = nll;
    l.scratch = &memory.scratch;
    return l;
}

// The gradients of the mean over the targets that count.
void OutputLayer::want_gradients(OutputLoss& l, float* dz, float* dweight, float* dbias) const {
    l.weight_per_row = weight_in_mean(l.targets, l.rows);
    if (l.rows == 0) {  // no row, no block that would write them
        std::fill_n(dweight, weight_->size(), 0.0f);
        if (dbias) std::fill_n(dbias, bias_->size(), 0.0f);
    }
    l.dh = dz;
    l.dh_stride = inputs();
    l.dweight = dweight;
    l.dbias = dbias;
}

void OutputLayer::loss(const float* z, size_t rows, const int32_t* targets, double* nll, float* dz, LossMemory& memory,
                       const float* const* products) const {
    if (weights_ == Weights::int8) return this->nll(z, rows, targets, nll, memory);
    OutputLoss l = loss_of(z, rows, targets, nll, memory);
    l.products = products;
    if (dz) {
        const bool here = memory.into_zeros;
        if (!here) memory.dweight.reserve(weight_->size());
        if (!here) memory.dbias.reserve(bias_ ? bias_->size() : 0);
        want_gradients(l, dz, (here ? weight_->grad : memory.dweight).data(),
                       bias_ ? (here ? bias_->grad : memory.dbias).data() : nullptr);
        l.weight_per_row = memory.weight.value_or(l.weight_per_row);
    }
    output_loss(*kernels_, l);
}

void OutputLayer::loss(const LossOfGroups& given, double* nll, float* dz, LossMemory& m) const {
    const size_t width = inputs(), count = given.groups.size(), apart = given.sums.apart ? count : 0;
    m.dweight.reserve(apart * weight_->size());
    m.dbias.reserve(apart * bias_->size());
    const GroupTree weights(m.dweight, count, weight_->size(), given.sums),
        biases(m.dbias, count, bias_->size(), given.sums);
    const auto leaf = [&](const GroupTree& tree, Buffer& buffer, size_t group, size_t size) {
        return apart ? buffer.data() + group * size : tree.leaf(group);
    };
    const auto add = [&](const GroupTree& tree, size_t group, size_t size) {
        if (apart) return;
        parallel(threads_for(static_cast<double>(size)),
                 [&](const Team& team) { tree.add(*kernels_, group, split(size, team.size, team.index, unit_block)); });
    };
    for (size_t g = 0; g < count; ++g) {
        const std::vector<size_t>& list = given.groups[g].list;
        const size_t own = list.size();
        m.z.reserve(own * width);
        m.dz.reserve(own * width);
        m.targets.resize(own);
        m.nll.resize(own);
        m.products.resize(given.products ? own : 0);
        for (size_t i = 0; i < own; ++i) {
            std::copy_n(given.z + list[i] * width, width, m.z.data() + i * width);
            m.targets[i] = given.targets[list[i]];
            if (given.products) m.products[i] = given.products[list[i]];
        }
        OutputLoss l = loss_of(m.z.data(), own, m.targets.data(), m.nll.data(), m);
        if (given.products) l.products = m.products.data();
        want_gradients(l, m.dz.data(), leaf(weights, m.dweight, g, weight_->size()),
                       leaf(biases, m.dbias, g, bias_->size()));
        output_loss(*kernels_, l);
        add(weights, g, weight_->size());
        add(biases, g, bias_->size());
        for (size_t i = 0; i < own; ++i) {
            nll[list[i]] = m.nll[i];
            std::copy_n(m.dz.data() + i * width, width, dz + list[i] * width);
        }
    }
}

void OutputLayer::add_gradients(const LossMemory& memory) {
    if (memory.into_zeros) return;
    const auto add = [&](Parameter* p, const Buffer& gradient) {
        const size_t size = p->grad.size();  // of all groups, if they are apart
        parallel(threads_for(static_cast<double>(size)), [&](const Team& team) {
            const Range own = split(size, team.size, team.index, unit_block);
            kernels_->add(own.size(), gradient.data() + own.begin, p->grad.data() + own.begin);
        });
    };
    add(weight_, memory.dweight);
    if (bias_) add(bias_, memory.dbias);
}

}  // namespace rnnfast::core
