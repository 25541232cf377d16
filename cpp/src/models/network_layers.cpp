// The adapters of the layers, and the table of types that a description may name.
#include <algorithm>
#include <stdexcept>

#include "files/options.h"
#include "layers/conv1d.h"
#include "layers/embedding.h"
#include "layers/linear.h"
#include "layers/norm.h"
#include "layers/self_attention.h"
#include "models/network_layer.h"
#include "ops/elementwise.h"
#include "ops/pool.h"
#include "runtime/check.h"

namespace rnnfast::core {

namespace {

// The width of the only input, which has numbers.
size_t only_input(const LayerPlace& place) {
    if (place.inputs.size() != 1)
        throw std::invalid_argument("has " + std::to_string(place.inputs.size()) + " inputs, expected one");
    if (place.inputs[0].ids) throw std::invalid_argument("reads ids, expected numbers; put an embedding in between");
    return place.inputs[0].width;
}

// The kinds of at least two inputs, which have numbers.
const std::vector<SignalKind>& several_inputs(const LayerPlace& place) {
    if (place.inputs.size() < 2) throw std::invalid_argument("has one input, expected at least two");
    for (const SignalKind& kind : place.inputs)
        if (kind.ids) throw std::invalid_argument("reads ids, expected numbers; put an embedding in between");
    return place.inputs;
}

// A layer without options.
struct NoOptions {
    template <class Self, class Visit>
    static void fields(Self&, Visit&&) {}
};

class EmbeddingAdapter : public PlacewiseLayer {
public:
    struct Options {
        size_t embedding_dim = 0;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("embedding_dim"), o.embedding_dim, Size{1});
        }
    };
    EmbeddingAdapter(const Options& o, const LayerPlace& place)
        : PlacewiseLayer(o.embedding_dim), layer_(ids(place), o.embedding_dim, place.seed, place.kernels) {}

    Parameters parameters() override { return layer_.parameters(); }
    void load(const FileValues& values) override { layer_.load(values); }
    ExpectedTensor expected(const Parameter& p) const override { return {p.name, p.shape, width_, Packing::rows}; }
    void backward(const LayerBackward& b) { layer_.backward(b.inputs[0]->ids, b.output.places(), b.dy); }

private:
    static size_t ids(const LayerPlace& place) {
        if (place.inputs.size() != 1 || !place.inputs[0].ids)
            throw std::invalid_argument("reads numbers, expected one input of ids");
        return place.inputs[0].width;
    }
    void map(const Signal* const* inputs, size_t, size_t places, float* y, Buffer&, size_t) const override {
        layer_.forward(inputs[0]->ids, places, y);
    }
    Embedding layer_;
};

class RecurrentAdapter : public NetworkLayer {
public:
    struct Options {
        std::string cell;
        size_t hidden_size = 0, num_layers = 1;
        bool bias = true, bidirectional = false, variational = false, recompute = false;
        double dropout = 0;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("cell"), o.cell);
            visit(required("hidden_size"), o.hidden_size, Size{1});
            visit(usual("num_layers"), o.num_layers, Size{1});
            visit(usual("bias"), o.bias);
            visit(usual("bidirectional"), o.bidirectional);
            visit(usual("dropout"), o.dropout, Share{});
            visit(later("variational"), o.variational);
            visit(later("recompute"), o.recompute);
        }
    };
    RecurrentAdapter(const Options& o, const LayerPlace& place)
        : NetworkLayer((o.bidirectional ? 2 : 1) * o.hidden_size),
          reads_ids_(place.inputs.size() == 1 && place.inputs[0].ids),
          layer_(options(o, place, reads_ids_ ? place.inputs[0].width : only_input(place)), place.seed, place.kernels) {
    }

    const Recurrent* recurrent() const override { return &layer_; }
    Parameters parameters() override {
        Parameters all;
        for (Parameter& p : layer_.parameters) all.push_back(&p);
        return all;
    }
    void weights_changed() override { layer_.weights_changed(); }
    void load(const FileValues& values) override { layer_.pack(values, reads_ids_); }
    ExpectedTensor expected(const Parameter& p) const override {
        const bool gathered = reads_ids_ && p.name.find("weight_ih_l0") != std::string::npos;
        const size_t hidden = layer_.options().hidden_size;
        return {p.name, p.shape, GateOrder{p.shape[0] / hidden, hidden}.columns(),
                gathered ? Packing::rows : Packing::panels};
    }

    std::unique_ptr<LayerTape> make_tape() const override { return std::make_unique<Tape>(); }
    void forward(const LayerForward& f) const override {
        RecurrentInput input = input_of(*f.inputs[0]);
        input.lengths = f.inputs[0]->lengths;
        layer_.forward(input, f.start, f.y, f.end, static_cast<Tape&>(*f.tape).tape, f.train, f.dropout_key);
    }
    void backward(const LayerBackward& b) {
        layer_.backward(static_cast<Tape&>(*b.tape).tape, b.dy, b.dend, b.dx[0], b.dstart);
    }
    bool backward_reads_y() const override { return true; }

    std::string no_stream() const override {
        return layer_.options().bidirectional ? "its second half starts from the end of the sequence" : "";
    }
    StreamState initial_state(size_t rows) const override {
        return {layer_.cell(), layer_.options().num_layers, layer_.options().hidden_size, rows};
    }
    StreamWorkspace::Sizes stream_sizes(size_t rows) const override {
        return core::stream_sizes(layer_.stack(reads_ids_), rows);
    }
    void run(const LayerRun& r) const override {
        stream_run(layer_.stack(reads_ids_), input_of(*r.inputs[0]), r.states, r.y, r.workspace, r.threads,
                   r.first_layer);
    }

private:
    struct Tape : LayerTape {
        RecurrentTape tape;
    };
    static RecurrentOptions options(const Options& o, const LayerPlace& place, size_t input_size) {
        if ((o.bidirectional ? 2 : 1) * o.num_layers > place.limits.scans)
            throw std::invalid_argument("asks for " + std::to_string(o.num_layers) +
                                        " layers; their weights are missing");
        RecurrentOptions r;
        r.cell = o.cell;
        r.input_size = input_size;
        r.hidden_size = o.hidden_size;
        r.num_layers = o.num_layers;
        r.bias = o.bias;
        r.bidirectional = o.bidirectional;
        r.dropout = static_cast<float>(o.dropout);
        r.variational = o.variational;
        r.recompute = o.recompute;
        r.weights = place.weights;
        return r;
    }
    static RecurrentInput input_of(const Signal& s) {
        RecurrentInput input;
        input.steps = s.steps;
        input.rows = s.rows;
        input.x = s.x;
        input.tokens = s.ids;
        return input;
    }

    bool reads_ids_;
    Recurrent layer_;
};

class LinearAdapter : public PlacewiseLayer {
public:
    struct Options {
        size_t out_features = 0;
        bool bias = true;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("out_features"), o.out_features, Size{1});
            visit(usual("bias"), o.bias);
        }
    };
    LinearAdapter(const Options& o, const LayerPlace& place)
        : PlacewiseLayer(o.out_features),
          layer_(only_input(place), o.out_features, o.bias, place.seed, place.kernels, place.weights) {}

    Parameters parameters() override { return layer_.parameters(); }
    void weights_changed() override { layer_.weights_changed(); }
    void load(const FileValues& values) override { layer_.pack(values); }
    void backward(const LayerBackward& b) { layer_.backward(b.inputs[0]->x, b.dy, b.output.places(), b.dx[0]); }
    StreamWorkspace::Sizes stream_sizes(size_t rows) const override {
        StreamWorkspace::Sizes sizes;
        sizes.left = layer_.scratch(rows);
        return sizes;
    }

private:
    void map(const Signal* const* inputs, size_t, size_t places, float* y, Buffer& scratch,
             size_t most_threads) const override {
        layer_.forward(inputs[0]->x, places, y, scratch, most_threads);
    }
    Linear layer_;
};

class LayerNormAdapter : public PlacewiseLayer {
public:
    struct Options {
        double eps = 1e-5;
        bool weight = true, bias = true, centered = true;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(usual("eps"), o.eps, Share{});
            visit(usual("weight"), o.weight);
            visit(usual("bias"), o.bias);
            visit(usual("centered"), o.centered);
        }
    };
    LayerNormAdapter(const Options& o, const LayerPlace& place)
        : PlacewiseLayer(only_input(place)),
          layer_({width_, static_cast<float>(o.eps), o.weight, o.bias, o.centered}, place.kernels,
                 place.seed.has_value()) {}

    Parameters parameters() override { return layer_.parameters(); }
    void load(const FileValues& values) override { layer_.load(values); }
    void backward(const LayerBackward& b) { layer_.backward(b.inputs[0]->x, b.dy, b.output.places(), b.dx[0]); }

private:
    void map(const Signal* const* inputs, size_t, size_t places, float* y, Buffer&,
             size_t most_threads) const override {
        layer_.forward(inputs[0]->x, places, y, most_threads);
    }
    LayerNorm layer_;
};

// A row of the state of a layer that is not recurrent.
float* state_of(StreamState* const* states, size_t row) {
    const size_t own = states[0]->rows;
    return states[row / own]->h_of(0).row(row % own);
}

Layout layout_of(const Signal& s) { return Layout::time_first(s.steps, s.rows, s.width); }

class Conv1dAdapter : public NetworkLayer {
public:
    struct Options {
        size_t out_channels = 0, kernel_size = 0, dilation = 1, before = 0, after = 0;
        bool bias = true;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("out_channels"), o.out_channels, Size{1});
            visit(required("kernel_size"), o.kernel_size, Size{1});
            visit(usual("dilation"), o.dilation, Size{1});
            visit(usual("before"), o.before, Size{0});
            visit(usual("after"), o.after, Size{0});
            visit(usual("bias"), o.bias);
        }
    };
    Conv1dAdapter(const Options& o, const LayerPlace& place)
        : NetworkLayer(o.out_channels),
          layer_({only_input(place), o.out_channels, o.kernel_size, o.dilation, o.before, o.after, o.bias}, place.seed,
                 place.kernels) {
        if (std::max(o.before, o.after) > reach())
            throw std::invalid_argument("before is " + std::to_string(o.before) + " and after " +
                                        std::to_string(o.after) + ": the kernel reaches over " +
                                        std::to_string(reach()) + " steps, expected no more");
        const size_t most = place.limits.numbers;
        if (reach() > most / channels() || o.before + o.after > most / o.out_channels)
            throw std::invalid_argument("reaches over " + std::to_string(reach()) +
                                        " steps, more than the weights justify");
    }

    size_t output_steps(size_t steps) const override {
        const size_t padded = steps + layer_.options().before + layer_.options().after;
        return steps && padded > reach() ? padded - reach() : 0;
    }
    Parameters parameters() override { return layer_.parameters(); }
    void weights_changed() override { layer_.weights_changed(); }
    void load(const FileValues& values) override { layer_.load(values); }

    void forward(const LayerForward& f) const override {
        layer_.forward({f.inputs[0]->x, layout_of(*f.inputs[0])}, {f.y, layout_of(f.output)});
    }
    void backward(const LayerBackward& b) {
        layer_.backward({b.inputs[0]->x, layout_of(*b.inputs[0])}, {b.dy, layout_of(b.output)}, b.dx[0]);
    }

    std::string no_stream() const override {
        if (layer_.options().before == reach() && layer_.options().after == 0) return "";
        return "it is not causal: it would have to be padded with " + std::to_string(reach()) +
               " steps before the sequence and none after it";
    }
    // The inputs of the last steps: [rows, reach, C], the oldest first
    StreamState initial_state(size_t rows) const override {
        return reach() ? StreamState::plain(reach() * channels(), rows) : StreamState();
    }
    StreamWorkspace::Sizes stream_sizes(size_t rows) const override {
        StreamWorkspace::Sizes sizes;
        sizes.between = layer_.options().kernel_size * rows * channels();
        return sizes;
    }
    void run(const LayerRun& r) const override {
        const Signal& in = *r.inputs[0];
        const size_t C = channels(), taps = layer_.options().kernel_size, dilation = layer_.options().dilation;
        r.workspace.between.reserve(taps * in.rows * C);
        for (size_t t = 0; t < in.steps; ++t) {
            for (size_t n = 0; n < in.rows; ++n) {
                const float* x = in.x + (t * in.rows + n) * C;
                const auto tap = [&](size_t j) { return r.workspace.between.data() + (j * in.rows + n) * C; };
                float* past = reach() ? state_of(r.states, n) : nullptr;
                for (size_t j = 0; j + 1 < taps; ++j) std::copy_n(past + j * dilation * C, C, tap(j));
                std::copy_n(x, C, tap(taps - 1));
                if (!past) continue;
                std::copy(past + C, past + reach() * C, past);
                std::copy_n(x, C, past + (reach() - 1) * C);
            }
            layer_.step(r.workspace.between.data(), in.rows, r.y + t * in.rows * width_);
        }
    }

private:
    size_t channels() const { return layer_.options().in_channels; }
    size_t reach() const { return layer_.options().dilation * (layer_.options().kernel_size - 1); }
    Conv1d layer_;
};

class SelfAttentionAdapter : public NetworkLayer {
public:
    struct Options {
        size_t num_heads = 1;
        bool causal = false, bias = true;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(usual("num_heads"), o.num_heads, Size{1});
            visit(usual("causal"), o.causal);
            visit(usual("bias"), o.bias);
        }
    };
    SelfAttentionAdapter(const Options& o, const LayerPlace& place)
        : NetworkLayer(only_input(place)), layer_({width_, o.num_heads, o.causal, o.bias}, place.seed, place.kernels) {}

    Parameters parameters() override { return layer_.parameters(); }
    void weights_changed() override { layer_.weights_changed(); }
    void load(const FileValues& values) override { layer_.load(values); }
    ExpectedTensor expected(const Parameter& p) const override {
        return {p.name, p.shape, p.shape[0] == width_ ? width_ : layer_.packed_columns()};
    }

    std::unique_ptr<LayerTape> make_tape() const override { return std::make_unique<Tape>(); }
    void forward(const LayerForward& f) const override {
        const Signal& in = *f.inputs[0];
        layer_.forward({in.x, layout_of(in)}, in.lengths, f.y, static_cast<Tape&>(*f.tape).tape, f.train);
    }
    void backward(const LayerBackward& b) {
        layer_.backward(static_cast<Tape&>(*b.tape).tape, b.inputs[0]->x, b.dy, b.dx[0]);
    }

    std::string no_stream() const override {
        return layer_.options().causal ? "it looks back at all steps, so that its state would grow with each of them"
                                       : "it looks at the whole sequence";
    }
    void run(const LayerRun&) const override {
        throw std::logic_error("self_attention has no steps; Network::no_stream() says so");
    }

private:
    struct Tape : LayerTape {
        AttentionTape tape;
    };
    SelfAttention layer_;
};

class DropoutAdapter : public NetworkLayer {
public:
    struct Options {
        double p = 0.5;
        bool variational = false;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(usual("p"), o.p, Share{});
            visit(later("variational"), o.variational);
        }
    };
    DropoutAdapter(const Options& o, const LayerPlace& place)
        : NetworkLayer(only_input(place)), dropout_{static_cast<float>(o.p), o.variational} {}

    bool only_trains() const override { return true; }
    bool in_place() const override { return true; }
    std::unique_ptr<LayerTape> make_tape() const override { return std::make_unique<Tape>(); }
    void forward(const LayerForward& f) const override { drop(f.inputs[0]->x, f.y, f.output, *f.tape, f.dropout_key); }
    void backward(const LayerBackward& b) {
        if (b.dx[0]) drop(b.dy, b.dx[0], b.output, *b.tape, b.dropout_key);
    }
    void run(const LayerRun&) const override {}  // its output is its input

private:
    struct Tape : LayerTape {
        Steps even;
    };
    void drop(const float* x, float* y, const Signal& shape, LayerTape& tape, uint64_t key) const {
        Steps& even = static_cast<Tape&>(tape).even;
        set_even(even, shape.steps, shape.rows);
        core::dropout(x, y, width_, even.offset, dropout_, key);
    }
    Dropout dropout_;
};

class ActivationAdapter : public PlacewiseLayer {
public:
    struct Options {
        Pointwise function = Pointwise::relu;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("function"), o.function);
        }
    };
    ActivationAdapter(const Options& o, const LayerPlace& place)
        : PlacewiseLayer(only_input(place)), function_(o.function), kernels_(place.kernels) {}

    bool in_place() const override { return !gradient_reads_x(function_); }
    bool backward_reads_y() const override { return !gradient_reads_x(function_); }
    void backward(const LayerBackward& b) {
        const float* from = gradient_reads_x(function_) ? b.inputs[0]->x : b.output.x;
        if (b.dx[0]) pointwise_gradient(kernels_, function_, b.output.size(), from, b.dy, b.dx[0]);
    }

private:
    void map(const Signal* const* inputs, size_t, size_t places, float* y, Buffer&,
             size_t most_threads) const override {
        pointwise(kernels_, function_, places * width_, inputs[0]->x, y, most_threads);
    }
    Pointwise function_;
    const Kernels& kernels_;
};

class PoolAdapter : public NetworkLayer {
public:
    struct Options {
        Pooling function = Pooling::last;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("function"), o.function);
        }
    };
    PoolAdapter(const Options& o, const LayerPlace& place) : NetworkLayer(only_input(place)), function_(o.function) {}

    size_t output_steps(size_t steps) const override { return steps ? 1 : 0; }
    bool summarizes() const override { return true; }
    bool backward_reads_y() const override { return true; }
    void forward(const LayerForward& f) const override { pool(function_, sequence(*f.inputs[0]), f.y); }
    void backward(const LayerBackward& b) {
        if (b.dx[0]) pool_gradient(function_, sequence(*b.inputs[0]), b.output.x, b.dy, b.dx[0]);
    }

    StreamState initial_state(size_t rows) const override { return StreamState::plain(width_ + 1, rows); }
    void run(const LayerRun& r) const override {
        const Signal& in = *r.inputs[0];
        for (size_t i = 0; i < in.places(); ++i)
            pool_step(function_, in.x + i * width_, width_, state_of(r.states, i % in.rows), r.y + i * width_);
    }

private:
    static PooledSequence sequence(const Signal& s) { return {s.steps, s.rows, s.width, s.x, s.lengths}; }
    Pooling function_;
};

// What add and multiply share: several inputs of one width.
class EqualInputs : public PlacewiseLayer {
public:
    using Options = NoOptions;

protected:
    explicit EqualInputs(const LayerPlace& place)
        : PlacewiseLayer(several_inputs(place)[0].width), kernels_(place.kernels) {
        for (const SignalKind& kind : place.inputs)
            if (kind.width != width_)
                throw std::invalid_argument("reads " + std::to_string(width_) + " and " + std::to_string(kind.width) +
                                            " numbers a step, expected equal widths");
    }
    const Kernels& kernels_;
};

class AddAdapter : public EqualInputs {
public:
    AddAdapter(const Options&, const LayerPlace& place) : EqualInputs(place) {}
    void backward(const LayerBackward& b) {
        for (float* dx : b.dx)
            if (dx) std::copy_n(b.dy, b.output.size(), dx);
    }

private:
    void map(const Signal* const* inputs, size_t count, size_t places, float* y, Buffer&,
             size_t most_threads) const override {
        std::copy_n(inputs[0]->x, places * width_, y);
        for (size_t i = 1; i < count; ++i) add(kernels_, places * width_, inputs[i]->x, y, most_threads);
    }
};

class MultiplyAdapter : public EqualInputs {
public:
    MultiplyAdapter(const Options&, const LayerPlace& place) : EqualInputs(place) {}
    // dx_i = dy times the other inputs, in their order
    void backward(const LayerBackward& b) {
        const size_t size = b.output.size();
        for (size_t i = 0; i < b.dx.size(); ++i) {
            const float* product = b.dy;
            for (size_t j = 0; b.dx[i] && j < b.inputs.size(); ++j) {
                if (j == i) continue;
                multiply(kernels_, size, product, b.inputs[j]->x, b.dx[i]);
                product = b.dx[i];
            }
        }
    }

private:
    void map(const Signal* const* inputs, size_t count, size_t places, float* y, Buffer&,
             size_t most_threads) const override {
        const float* product = inputs[0]->x;
        for (size_t i = 1; i < count; ++i, product = y)
            multiply(kernels_, places * width_, product, inputs[i]->x, y, most_threads);
    }
};

class ConcatenateAdapter : public PlacewiseLayer {
public:
    using Options = NoOptions;
    ConcatenateAdapter(const Options&, const LayerPlace& place) : PlacewiseLayer(0) {
        for (const SignalKind& kind : several_inputs(place)) width_ += kind.width;
    }
    void backward(const LayerBackward& b) {
        size_t first = 0;
        for (size_t i = 0; i < b.inputs.size(); first += b.inputs[i++]->width)
            for (size_t r = 0, own = b.inputs[i]->width; b.dx[i] && r < b.output.places(); ++r)
                std::copy_n(b.dy + r * width_ + first, own, b.dx[i] + r * own);
    }

private:
    void map(const Signal* const* inputs, size_t count, size_t places, float* y, Buffer&, size_t) const override {
        for (size_t i = 0; i < count; y += inputs[i++]->width)
            for (size_t r = 0, own = inputs[i]->width; r < places; ++r)
                std::copy_n(inputs[i]->x + r * own, own, y + r * width_);
    }
};

template <class Adapter>
std::unique_ptr<NetworkLayer> make(const Json& json, const LayerPlace& place, std::string& written) {
    const auto options = read_options<typename Adapter::Options>(json);
    written = write_options(options);
    auto layer = std::make_unique<Adapter>(options, place);
    if constexpr (training)
        layer->set_backward(
            [](NetworkLayer& made, const LayerBackward& b) { static_cast<Adapter&>(made).backward(b); });
    return layer;
}

struct LayerType {
    const char* name;
    std::unique_ptr<NetworkLayer> (*make)(const Json& options, const LayerPlace& place, std::string& written);
};
constexpr LayerType types[] = {
    {"embedding", make<EmbeddingAdapter>}, {"recurrent", make<RecurrentAdapter>},
    {"linear", make<LinearAdapter>},       {"layer_norm", make<LayerNormAdapter>},
    {"conv1d", make<Conv1dAdapter>},       {"self_attention", make<SelfAttentionAdapter>},
    {"dropout", make<DropoutAdapter>},     {"activation", make<ActivationAdapter>},
    {"pool", make<PoolAdapter>},           {"add", make<AddAdapter>},
    {"multiply", make<MultiplyAdapter>},   {"concatenate", make<ConcatenateAdapter>},
};

}  // namespace

std::unique_ptr<NetworkLayer> make_layer(const std::string& type, const Json& options, const LayerPlace& place,
                                         std::string& written) {
    std::string names;
    for (const LayerType& known : types) {
        if (known.name == type) return known.make(options, place, written);
        names += (names.empty() ? "" : ", ") + std::string(known.name);
    }
    throw std::invalid_argument("there is no such type: expected one of " + names);
}

}  // namespace rnnfast::core
