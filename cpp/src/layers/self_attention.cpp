#include "layers/self_attention.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "runtime/check.h"
#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

SelfAttention::SelfAttention(const AttentionOptions& options, std::optional<uint64_t> seed, const Kernels& kernels)
    : function_(options, kernels) {
    const size_t D = options.embed_dim;
    const bool values = seed.has_value();
    in_weight_ = make_parameter("in_proj_weight", {3 * D, D}, values);
    in_bias_ = make_parameter("in_proj_bias", {options.bias ? 3 * D : 0}, values);
    out_weight_ = make_parameter("out_proj.weight", {D, D}, values);
    out_bias_ = make_parameter("out_proj.bias", {options.bias ? D : 0}, values);
    // PyTorch's initialization; biases are zero
    uniform_(in_weight_, std::sqrt(6.0 / static_cast<double>(4 * D)), random_key(seed.value_or(0), 1));
    uniform_(out_weight_, 1.0 / std::sqrt(static_cast<double>(D)), random_key(seed.value_or(0), 2));
}

void SelfAttention::load(const FileValues& values) {
    for (Parameter* p : parameters()) copy_values(*p, values);
    packed_forward();
    for (Parameter* p : parameters()) p->value = {};
}

void SelfAttention::weights_changed() {
    forward_.weights_changed();
    backward_.weights_changed();
    stamp_.renew();
}

Parameters SelfAttention::parameters() {
    if (!options().bias) return {&in_weight_, &out_weight_};
    return {&in_weight_, &in_bias_, &out_weight_, &out_bias_};
}

size_t SelfAttention::packed_columns() const {
    return attention_parts * function_.heads().heads * function_.heads().padded();
}

AttentionParameters SelfAttention::values() const {
    return {in_weight_.value.data(), in_bias_.value.data(), out_weight_.value.data(), out_bias_.value.data()};
}

const AttentionForward& SelfAttention::packed_forward() const {
    return forward_.get([&](AttentionForward& p) { function_.pack(values(), p); });
}

void SelfAttention::forward(const ConstSequence& x, const int64_t* lengths, float* y, SelfAttentionTape& tape,
                            bool save) const {
    tape.weights = stamp_.now();  // before the weights are read
    const AttentionForward& packed = packed_forward();
    AttentionTape& own = tape.attention;
    own.lengths.assign(x.layout.rows, x.layout.steps);
    if (lengths) {
        check_lengths(lengths, x.layout.rows, {0, x.layout.steps});
        own.lengths.assign(lengths, lengths + x.layout.rows);
    }
    own.keys = own.lengths;
    function_.run(packed, x, y, own);
    tape.saved = save;
}

void SelfAttention::backward(SelfAttentionTape& tape, const float* x, const float* dy, float* dx) {
    if (!tape.saved) refuse({"backward has already used this tape: run forward again"});
    stamp_.check(tape.weights);
    tape.saved = false;
    const AttentionBackward& packed = backward_.get([&](AttentionBackward& p) { function_.pack(values(), p); });
    AttentionGradients g{in_weight_.grad.data(), nullptr, out_weight_.grad.data(), nullptr};
    if (options().bias) {
        g.in_bias = in_bias_.grad.data();
        g.out_bias = out_bias_.grad.data();
    }
    function_.run_backward(packed, tape.attention, x, dy, g, dx);
}

void SelfAttention::append(AttentionCache& cache, const float* projected) const {
    const HeadPanels& shape = function_.heads();
    const size_t heads = shape.heads, padded = shape.padded(), width = shape.width(), panel = kernels().product().width;
    if (cache.length == cache.capacity) {
        AttentionCache larger;
        larger.capacity = std::max(query_block, 2 * cache.capacity);
        larger.keys = Buffer(cache.rows * heads * larger.capacity * shape.size);
        larger.values = Buffer(cache.rows * heads * larger.capacity * padded);
        for (size_t i = 0; i < cache.rows * heads; ++i)
            std::copy_n(cache.keys.data() + i * cache.capacity * shape.size, cache.capacity * shape.size,
                        larger.keys.data() + i * larger.capacity * shape.size);
        for (size_t i = 0; i < cache.rows * heads * shape.panels(); ++i)
            std::copy_n(cache.values.data() + i * cache.capacity * width, cache.length * width,
                        larger.values.data() + i * larger.capacity * width);
        cache.capacity = larger.capacity;
        cache.keys = std::move(larger.keys);
        cache.values = std::move(larger.values);
    }
    for (size_t i = 0; i < cache.rows * heads; ++i) {
        const size_t n = i / heads, h = i % heads;
        const float* k = projected + ((n * attention_parts + part_k) * heads + h) * padded;
        const float* v = projected + ((n * attention_parts + part_v) * heads + h) * padded;
        float* column = cache.keys.data() + i * cache.capacity * shape.size +
                        cache.length / panel * panel * shape.size + cache.length % panel;
        for (size_t d = 0; d < shape.size; ++d) column[d * panel] = k[d];
        for (size_t p = 0; p < shape.panels(); ++p)
            std::copy_n(v + p * width, width,
                        cache.values.data() + ((i * shape.panels() + p) * cache.capacity + cache.length) * width);
    }
    ++cache.length;
}

void SelfAttention::fit(AttentionCache& cache, size_t rows) const {
    const auto text = [](size_t dim, size_t heads, size_t n) {
        return "embed_dim " + std::to_string(dim) + ", num_heads " + std::to_string(heads) + " and " +
               std::to_string(n) + (n == 1 ? " row" : " rows");
    };
    if (cache.length == 0) {
        cache.rows = rows;
        cache.embed_dim = options().embed_dim;
        cache.num_heads = options().num_heads;
        cache.kernels = &kernels();
    }
    if (cache.rows != rows || cache.embed_dim != options().embed_dim || cache.num_heads != options().num_heads)
        refuse({"SelfAttention: the state is of ", text(cache.embed_dim, cache.num_heads, cache.rows),
                ", this step has ", text(options().embed_dim, options().num_heads, rows),
                "; give the state that this layer returned, or None to start"});
    if (cache.kernels != &kernels())
        refuse({"SelfAttention: the state was made for another instruction set; start a new one"});
}

void SelfAttention::step(const float* x, size_t rows, AttentionCache& cache, float* y) const {
    const SoleUse use(cache.mutex, "this state of SelfAttention", "start a new one, with None");
    fit(cache, rows);
    const AttentionForward& p = packed_forward();
    const HeadPanels& shape = function_.heads();
    const size_t D = options().embed_dim, heads = shape.heads, padded = shape.padded();
    const Layout layout = Layout::time_first(1, rows, D);
    Buffer projected(rows * attention_parts * heads * padded, Buffer::Uninitialised{}), context(rows * D), out(padded);
    Buffer scores(key_block, Buffer::Uninitialised{});
    const Buffer zeros(key_block);
    const Team alone{0, 1, nullptr};
    function_.project(alone, p, {x, layout}, std::vector<size_t>(rows, 1), projected.data());
    append(cache, projected.data());
    for (size_t i = 0; i < rows * heads; ++i) {
        float top = -3.4e38f, sum = 0, rescale = 0;
        out.zero();
        for (size_t k = 0; k < cache.length; k += key_block) {
            Gemm g;
            g.rows = 1;
            g.depth = shape.size;
            g.columns = std::min(key_block, cache.length - k);
            g.a = {projected.data() + (i / heads * attention_parts * heads + i % heads) * padded, 0, 0, 0};
            g.panels = cache.keys.data() + (i * cache.capacity + k) * shape.size;
            g.start = zeros.data();
            g.c = {scores.data(), 0, 0, 0};
            kernels().product().run(g);
            AttentionBlock b;
            b.keys = g.columns;
            b.scores = scores.data();
            b.maximum = &top;
            b.sum = &sum;
            b.rescale = &rescale;
            kernels().attention_softmax_row(b);
            if (k) kernels().scale(padded, rescale, out.data());
            g.depth = b.keys;
            g.columns = padded;
            g.a = {scores.data(), 0, 0, 0};
            g.panels = cache.values.data() + (i * shape.panels() * cache.capacity + k) * shape.width();
            g.panel_stride = cache.capacity * shape.width();
            g.start = nullptr;
            g.c = {out.data(), 0, 0, 0};
            shape.kernel->run(g);
        }
        kernels().scale(padded, 1.0f / sum, out.data());
        std::copy_n(out.data(), shape.size, context.data() + i / heads * D + i % heads * shape.size);
    }
    convolve(alone, {p.out, p.out_start.data(), {}}, {context.data(), layout}, {y, layout});
}

}  // namespace rnnfast::core
