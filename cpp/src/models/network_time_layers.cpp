// The adapters of layers that read several steps, but for recurrent ones.
#include <algorithm>

#include "layers/attention_pool.h"
#include "layers/conv1d.h"
#include "layers/self_attention.h"
#include "models/network_adapters.h"
#include "ops/pool.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

// A row of the state of a layer that is not recurrent.
float* state_of(StreamState* const* states, size_t row) {
    const size_t own = states[0]->rows;
    return states[row / own]->h_of(0).row(row % own);
}

// Why a layer whose outputs are further apart than its inputs has no stream.
std::string without_steps(size_t stride) {
    return "it gives one step for every " + std::to_string(stride) +
           " that it reads, and a stream gives one for each; run it on whole sequences";
}

Layout layout_of(const Signal& s) { return Layout::time_first(s.steps, s.rows, s.width); }

class Conv1dAdapter : public NetworkLayer {
public:
    struct Options {
        size_t out_channels = 0, kernel_size = 0, dilation = 1, before = 0, after = 0, stride = 1, groups = 1;
        bool bias = true;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("out_channels"), o.out_channels, Size{1});
            visit(required("kernel_size"), o.kernel_size, Size{1});
            visit(usual("dilation"), o.dilation, Size{1});
            visit(usual("before"), o.before, Size{0});
            visit(usual("after"), o.after, Size{0});
            visit(usual("bias"), o.bias);
            visit(usual("stride"), o.stride, Size{1});
            visit(usual("groups"), o.groups, Size{1});
        }
    };
    Conv1dAdapter(const Options& o, const LayerPlace& place)
        : NetworkLayer(o.out_channels),
          layer_({only_input(place), o.out_channels, o.kernel_size, o.dilation, o.before, o.after, o.bias, o.stride,
                  o.groups},
                 place.seed, place.kernels) {
        if (std::max(o.before, o.after) > reach())
            refuse({"before is ", o.before, " and after ", o.after, ": the kernel reaches over ", reach(),
                    " steps, expected no more"});
        const size_t most = place.limits.numbers;
        if (reach() > most / channels() || o.before + o.after > most / o.out_channels)
            refuse({"reaches over ", reach(), " steps, more than the weights justify"});
    }

    size_t output_steps(size_t steps) const override { return layer_.options().output_steps(steps); }
    Parameters parameters() override { return layer_.parameters(); }
    // Each group is packed on its own.
    ExpectedTensor expected(const Parameter& p) const override {
        const size_t groups = layer_.options().groups;
        return {p.name, p.shape, groups > 1 ? groups * round_up(p.shape[0] / groups, 64) : p.shape[0]};
    }
    void weights_changed() override { layer_.weights_changed(); }
    void load(const FileValues& values) override { layer_.load(values); }

    void forward(const LayerForward& f) const override {
        layer_.forward({f.inputs[0]->x, layout_of(*f.inputs[0])}, {f.y, layout_of(f.output)});
    }
    void backward(const LayerBackward& b) {
        layer_.backward({b.inputs[0]->x, layout_of(*b.inputs[0])}, {b.dy, layout_of(b.output)}, b.dx[0]);
    }

    std::string no_stream() const override {
        if (layer_.options().stride > 1) return without_steps(layer_.options().stride);
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
    bool runs_whole() const override { return true; }
    void run_whole(const LayerRun& r) const override {
        layer_.forward({r.inputs[0]->x, layout_of(*r.inputs[0])}, {r.y, layout_of(r.output)}, r.threads);
    }

private:
    size_t channels() const { return layer_.options().in_channels; }
    size_t reach() const { return layer_.options().reach(); }
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
        SelfAttentionTape tape;
    };
    SelfAttention layer_;
};

PooledSequence pooled(const Signal& s) { return {s.steps, s.rows, s.width, s.x, s.lengths}; }

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
    void forward(const LayerForward& f) const override { pool(function_, pooled(*f.inputs[0]), f.y); }
    void backward(const LayerBackward& b) {
        if (b.dx[0]) pool_gradient(function_, pooled(*b.inputs[0]), b.output.x, b.dy, b.dx[0]);
    }

    StreamState initial_state(size_t rows) const override { return StreamState::plain(width_ + 1, rows); }
    void run(const LayerRun& r) const override {
        const Signal& in = *r.inputs[0];
        for (size_t i = 0; i < in.places(); ++i)
            pool_step(function_, in.x + i * width_, width_, state_of(r.states, i % in.rows), r.y + i * width_);
    }
    bool runs_whole() const override { return true; }
    void run_whole(const LayerRun& r) const override { pool(function_, pooled(*r.inputs[0]), r.y); }

private:
    Pooling function_;
};

class AttentionPoolAdapter : public NetworkLayer {
public:
    using Options = NoOptions;
    AttentionPoolAdapter(const Options&, const LayerPlace& place)
        : NetworkLayer(only_input(place)), layer_(width_, place.seed, place.kernels) {}

    size_t output_steps(size_t steps) const override { return steps ? 1 : 0; }
    bool summarizes() const override { return true; }
    bool backward_reads_y() const override { return true; }
    Parameters parameters() override { return layer_.parameters(); }
    void load(const FileValues& values) override { layer_.load(values); }

    std::unique_ptr<LayerTape> make_tape() const override { return std::make_unique<Tape>(); }
    void forward(const LayerForward& f) const override {
        layer_.forward(pooled(*f.inputs[0]), f.y, static_cast<Tape&>(*f.tape).states);
    }
    void backward(const LayerBackward& b) {
        layer_.backward(pooled(*b.inputs[0]), b.output.x, b.dy, b.dx[0], static_cast<Tape&>(*b.tape).states);
    }
    StreamState initial_state(size_t rows) const override { return StreamState::plain(layer_.state_size(), rows); }
    void run(const LayerRun& r) const override {
        const Signal& in = *r.inputs[0];
        for (size_t i = 0; i < in.places(); ++i)
            layer_.step(in.x + i * width_, state_of(r.states, i % in.rows), r.y + i * width_);
    }

private:
    struct Tape : LayerTape {
        Buffer states;
    };
    AttentionPool1d layer_;
};

class WindowsAdapter : public NetworkLayer {
public:
    struct Options {
        Pooling function = Pooling::max;
        size_t kernel_size = 0, stride = 1, before = 0, after = 0;
        bool padding_counts = true;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("function"), o.function);
            visit(required("kernel_size"), o.kernel_size, Size{1});
            visit(usual("stride"), o.stride, Size{1});
            visit(usual("before"), o.before, Size{0});
            visit(usual("after"), o.after, Size{0});
            visit(usual("padding_counts"), o.padding_counts);
        }
    };
    WindowsAdapter(const Options& o, const LayerPlace& place)
        : NetworkLayer(only_input(place)),
          windows_{o.kernel_size, o.stride, o.before, o.after, o.function == Pooling::max, o.padding_counts} {
        if (o.function != Pooling::max && o.function != Pooling::mean)
            refuse(
                {"function is ", name_of(o.function), ", expected max or mean; a pool gives the last or first step"});
        if (std::max(o.before, o.after) >= o.kernel_size)
            refuse(
                {"before is ", o.before, " and after ", o.after, ": expected less than kernel_size, ", o.kernel_size});
        if (o.kernel_size > place.limits.numbers / width_)
            refuse({"reads windows of ", o.kernel_size, " steps, more than the weights justify"});
    }

    size_t output_steps(size_t steps) const override { return windows_.output_steps(steps); }
    bool backward_reads_y() const override { return true; }
    void forward(const LayerForward& f) const override { pool_windows(windows_, pooled(*f.inputs[0]), f.y); }
    void backward(const LayerBackward& b) {
        if (b.dx[0]) pool_windows_gradient(windows_, pooled(*b.inputs[0]), b.output.x, b.dy, b.dx[0]);
    }

    std::string no_stream() const override {
        if (windows_.stride > 1) return without_steps(windows_.stride);
        if (windows_.before + 1 == windows_.size && windows_.after == 0) return "";
        return "its windows are not causal: they would have to be padded with " + std::to_string(windows_.size - 1) +
               " steps before the sequence and none after it";
    }
    // The inputs of the last steps, the newest last, and how many of the window's steps there have been
    StreamState initial_state(size_t rows) const override {
        return StreamState::plain((windows_.size - 1) * width_ + 1, rows);
    }
    StreamWorkspace::Sizes stream_sizes(size_t) const override {
        StreamWorkspace::Sizes sizes;
        sizes.between = windows_.size * width_;
        return sizes;
    }
    void run(const LayerRun& r) const override {
        const Signal& in = *r.inputs[0];
        const size_t past = (windows_.size - 1) * width_;
        r.workspace.between.reserve(past + width_);
        float* window = r.workspace.between.data();
        for (size_t i = 0; i < in.places(); ++i) {
            float* state = state_of(r.states, i % in.rows);
            // A state that a caller restored may hold any number here.
            const float before = std::clamp(state[past], 0.0f, static_cast<float>(windows_.size));
            const size_t seen = std::min(windows_.size, 1 + static_cast<size_t>(before));
            state[past] = static_cast<float>(seen);
            std::copy_n(state, past, window);
            std::copy_n(in.x + i * width_, width_, window + past);
            std::copy_n(window + width_, past, state);
            // The last `seen` steps as the first window of a sequence that ends with this step
            const Windows last{windows_.size, 1, windows_.size - seen, 0, windows_.maximum, windows_.padding_counts};
            const PooledSequence s{seen, 1, width_, window + (windows_.size - seen) * width_, nullptr};
            pool_windows(last, s, r.y + i * width_, 1);
        }
    }
    bool runs_whole() const override { return true; }
    void run_whole(const LayerRun& r) const override { pool_windows(windows_, pooled(*r.inputs[0]), r.y, r.threads); }

private:
    Windows windows_;
};

// Runs of `steps` steps side by side; steps left over at the end are dropped.
class FlattenAdapter : public NetworkLayer {
public:
    struct Options {
        size_t steps = 0;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("steps"), o.steps, Size{1});
        }
    };
    FlattenAdapter(const Options& o, const LayerPlace& place)
        : NetworkLayer(o.steps * only_input(place)), steps_(o.steps), inputs_(place.inputs[0].width) {}

    size_t output_steps(size_t steps) const override { return steps / steps_; }
    void forward(const LayerForward& f) const override { flatten(*f.inputs[0], f.output, f.y); }
    void backward(const LayerBackward& b) {
        if (!b.dx[0]) return;
        std::fill_n(b.dx[0], b.inputs[0]->size(), 0.0f);
        each(*b.inputs[0], b.output, [&](size_t from, size_t to) { std::copy_n(b.dy + to, inputs_, b.dx[0] + from); });
    }
    std::string no_stream() const override { return steps_ > 1 ? without_steps(steps_) : ""; }
    void run(const LayerRun& r) const override { std::copy_n(r.inputs[0]->x, r.output.size(), r.y); }
    bool runs_whole() const override { return true; }
    void run_whole(const LayerRun& r) const override { flatten(*r.inputs[0], r.output, r.y); }

private:
    void flatten(const Signal& x, const Signal& shape, float* y) const {
        each(x, shape, [&](size_t from, size_t to) { std::copy_n(x.x + from, inputs_, y + to); });
    }
    // Calls body(place in x, place in y) for every step of a row in y.
    template <class Body>
    void each(const Signal& x, const Signal& y, Body body) const {
        for (size_t t = 0; t < y.steps * steps_; ++t)
            for (size_t n = 0; n < y.rows; ++n)
                body((t * x.rows + n) * inputs_, (t / steps_ * y.rows + n) * width_ + t % steps_ * inputs_);
    }
    size_t steps_, inputs_;
};

// Steps in front of a row's first step and behind its last one, which mirror those next to them.
class ReflectionPadAdapter : public NetworkLayer {
public:
    struct Options {
        size_t before = 0, after = 0;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(usual("before"), o.before, Size{0});
            visit(usual("after"), o.after, Size{0});
        }
    };
    ReflectionPadAdapter(const Options& o, const LayerPlace& place) : NetworkLayer(only_input(place)), pads_(o) {}

    // A row that does not have a step for each reflected one gives nothing.
    size_t output_steps(size_t steps) const override {
        return steps > std::max(pads_.before, pads_.after) ? steps + pads_.before + pads_.after : 0;
    }
    void forward(const LayerForward& f) const override { pad(*f.inputs[0], f.output, f.y); }
    void backward(const LayerBackward& b) {
        if (!b.dx[0]) return;
        std::fill_n(b.dx[0], b.inputs[0]->size(), 0.0f);
        each(*b.inputs[0], b.output, [&](size_t from, size_t to) {
            for (size_t i = 0; i < width_; ++i) b.dx[0][from + i] += b.dy[to + i];
        });
    }

    std::string no_stream() const override { return "it reads steps at the ends of a sequence again"; }
    void run(const LayerRun&) const override {
        throw std::logic_error("reflection_pad has no steps; Network::no_stream() says so");
    }
    bool runs_whole() const override { return true; }
    void run_whole(const LayerRun& r) const override { pad(*r.inputs[0], r.output, r.y); }

private:
    void pad(const Signal& x, const Signal& shape, float* y) const {
        if (x.lengths) {
            each(x, shape, [&](size_t from, size_t to) { std::copy_n(x.x + from, width_, y + to); });
            return;
        }
        const size_t step = x.rows * width_, last = x.steps - 1;
        float* to = y + pads_.before * step;
        std::copy_n(x.x, x.size(), to);
        for (size_t i = 1; i <= pads_.before; ++i) std::copy_n(x.x + i * step, step, to - i * step);
        for (size_t i = 1; i <= pads_.after; ++i) std::copy_n(x.x + (last - i) * step, step, to + (last + i) * step);
    }
    // Calls body(place in x, place in y) for every step of a row in y.
    template <class Body>
    void each(const Signal& x, const Signal& y, Body body) const {
        for (size_t n = 0; n < x.rows; ++n) {
            const size_t steps = x.lengths ? static_cast<size_t>(x.lengths[n]) : x.steps, given = output_steps(steps);
            for (size_t t = 0; t < given; ++t) {
                const size_t past = t < pads_.before ? pads_.before - t : t - pads_.before;
                const size_t from = past < steps ? past : 2 * (steps - 1) - past;
                body((from * x.rows + n) * width_, (t * y.rows + n) * width_);
            }
        }
    }
    Options pads_;
};

constexpr LayerType types[] = {
    {"conv1d", make<Conv1dAdapter>},
    {"self_attention", make<SelfAttentionAdapter>},
    {"pool", make<PoolAdapter>},
    {"attention_pool", make<AttentionPoolAdapter>},
    {"pool_windows", make<WindowsAdapter>},
    {"flatten", make<FlattenAdapter>},
    {"reflection_pad", make<ReflectionPadAdapter>},
};

}  // namespace

LayerTypes layers_over_time() { return {std::begin(types), std::end(types)}; }

}  // namespace rnnfast::core
