// The adapters of layers that are functions of a step's numbers, without weights.
#include <algorithm>

#include "models/network_adapters.h"
#include "ops/elementwise.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

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
    void forward(const LayerForward& f) const override { drop(f.inputs[0]->x, f.y, f.output, *f.tape, f.row_groups); }
    void backward(const LayerBackward& b) {
        if (b.dx[0]) drop(b.dy, b.dx[0], b.output, *b.tape, b.row_groups);
    }
    void run(const LayerRun&) const override {}  // its output is its input

private:
    struct Tape : LayerTape {
        Steps even;
    };
    void drop(const float* x, float* y, const Signal& shape, LayerTape& tape, const RowGroups& keys) const {
        Steps& even = static_cast<Tape&>(tape).even;
        set_even(even, shape.steps, shape.rows);
        if (!keys) return core::dropout(x, y, width_, even.offset, dropout_, keys);
        const auto groups = even_groups(shape.steps, shape.rows, keys.count());
        core::dropout(x, y, width_, groups, {0, shape.steps}, dropout_, keys);
    }
    Dropout dropout_;
};

class ActivationAdapter : public PlacewiseLayer {
public:
    struct Options {
        Pointwise function = Pointwise::relu;
        std::optional<double> alpha, beta;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("function"), o.function);
            visit(later("alpha"), o.alpha, Number{});
            visit(later("beta"), o.beta, Number{});
        }
    };
    ActivationAdapter(const Options& o, const LayerPlace& place)
        : PlacewiseLayer(only_input(place)),
          function_(Activation::of(o.function, o.alpha, o.beta)),
          kernels_(place.kernels) {}

    bool in_place() const override { return !function_.gradient_reads_x(); }
    bool backward_reads_y() const override { return !function_.gradient_reads_x(); }
    void backward(const LayerBackward& b) {
        const float* from = function_.gradient_reads_x() ? b.inputs[0]->x : b.output.x;
        if (b.dx[0]) pointwise_gradient(kernels_, function_, b.output.size(), from, b.dy, b.dx[0]);
    }

private:
    void map(const Signal* const* inputs, size_t, size_t places, float* y, Buffer&,
             size_t most_threads) const override {
        pointwise(kernels_, function_, places * width_, inputs[0]->x, y, most_threads);
    }
    Activation function_;
    const Kernels& kernels_;
};

class SoftmaxAdapter : public PlacewiseLayer {
public:
    struct Options {
        bool log = false;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(usual("log"), o.log);
        }
    };
    SoftmaxAdapter(const Options& o, const LayerPlace& place)
        : PlacewiseLayer(only_input(place)), log_(o.log), kernels_(place.kernels) {}

    bool in_place() const override { return true; }
    bool backward_reads_y() const override { return true; }
    void backward(const LayerBackward& b) {
        if (!b.dx[0]) return;
        RowSoftmax s = rows(b.output.places());
        s.y = const_cast<float*>(b.output.x);  // which backward only reads
        s.dy = b.dy;
        s.dx = b.dx[0];
        row_softmax_gradient(kernels_, s);
    }

private:
    RowSoftmax rows(size_t places) const {
        RowSoftmax s;
        s.rows = places;
        s.size = width_;
        s.logarithm = log_;
        return s;
    }
    void map(const Signal* const* inputs, size_t, size_t places, float* y, Buffer&,
             size_t most_threads) const override {
        RowSoftmax s = rows(places);
        s.x = inputs[0]->x;
        s.y = y;
        row_softmax(kernels_, s, most_threads);
    }
    bool log_;
    const Kernels& kernels_;
};

class ScaleAdapter : public PlacewiseLayer {
public:
    struct Options {
        double factor = 1;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(required("factor"), o.factor, Number{});
        }
    };
    ScaleAdapter(const Options& o, const LayerPlace& place)
        : PlacewiseLayer(only_input(place)), factor_(static_cast<float>(o.factor)), kernels_(place.kernels) {}

    bool in_place() const override { return true; }
    void backward(const LayerBackward& b) {
        if (b.dx[0]) scale(kernels_, b.output.size(), factor_, b.dy, b.dx[0]);
    }

private:
    void map(const Signal* const* inputs, size_t, size_t places, float* y, Buffer&,
             size_t most_threads) const override {
        scale(kernels_, places * width_, factor_, inputs[0]->x, y, most_threads);
    }
    float factor_;
    const Kernels& kernels_;
};

// The first half of a step's numbers are real parts, the second half imaginary parts.
class MagnitudeAdapter : public PlacewiseLayer {
public:
    using Options = NoOptions;
    MagnitudeAdapter(const Options&, const LayerPlace& place) : PlacewiseLayer(only_input(place) / 2) {
        if (const size_t given = place.inputs[0].width; given % 2)
            refuse({"reads ", given, " numbers a step, expected an even count: real parts, then imaginary parts"});
    }

    bool backward_reads_y() const override { return true; }
    void backward(const LayerBackward& b) {
        if (b.dx[0]) magnitude_gradient(b.output.places(), width_, b.inputs[0]->x, b.output.x, b.dy, b.dx[0]);
    }

private:
    void map(const Signal* const* inputs, size_t, size_t places, float* y, Buffer&,
             size_t most_threads) const override {
        magnitude(places, width_, inputs[0]->x, y, most_threads);
    }
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
                refuse({"reads ", width_, " and ", kind.width, " numbers a step, expected equal widths"});
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

constexpr LayerType types[] = {
    {"dropout", make<DropoutAdapter>},   {"activation", make<ActivationAdapter>},   {"softmax", make<SoftmaxAdapter>},
    {"scale", make<ScaleAdapter>},       {"magnitude", make<MagnitudeAdapter>},     {"add", make<AddAdapter>},
    {"multiply", make<MultiplyAdapter>}, {"concatenate", make<ConcatenateAdapter>},
};

}  // namespace

LayerTypes layers_of_numbers() { return {std::begin(types), std::end(types)}; }

}  // namespace rnnfast::core
