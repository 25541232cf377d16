// The adapters of recurrent layers and of those that map every step by its weights; every type that a description may
// name is in the table at the end of one of the files of adapters.
#include "layers/batch_norm.h"
#include "layers/embedding.h"
#include "layers/linear.h"
#include "layers/norm.h"
#include "models/network_adapters.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

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
    bool sums_groups() const override { return true; }
    void backward(const LayerBackward& b) {
        const RowGroups& groups = b.row_groups;
        if (groups)
            return layer_.backward(b.inputs[0]->ids, {b.output.steps, b.output.rows, groups.count()}, groups.sums,
                                   b.dy);
        layer_.backward(b.inputs[0]->ids, b.output.places(), b.dy);
    }

private:
    static size_t ids(const LayerPlace& place) {
        if (place.inputs.size() != 1 || !place.inputs[0].ids) refuse({"reads numbers, expected one input of ids"});
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
        std::optional<double> weight_drop;
        std::optional<size_t> window;
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
            visit(later("weight_drop"), o.weight_drop, Share{});
            visit(later("window"), o.window, Size{1});
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
        layer_.forward(input, f.start, f.y, f.end, static_cast<Tape&>(*f.tape).tape, f.train, f.row_groups);
    }
    void backward(const LayerBackward& b) {
        RecurrentTape& tape = static_cast<Tape&>(*b.tape).tape;
        tape.progress = b.progress;
        tape.row_groups.sums = b.row_groups.sums;
        layer_.backward(tape, b.dy, b.dend, b.dx[0], b.dstart);
    }
    bool backward_reads_y() const override { return true; }
    bool sums_groups() const override { return true; }
    std::string no_groups() const override {
        if (layer_.options().recompute) return "it computes parts of the sequence again, recompute";
        return layer_.options().weight_drop > 0 ? "its masks of weights, weight_drop, are those of a whole batch" : "";
    }

    std::string no_stream() const override {
        return layer_.options().bidirectional ? "its second half starts from the end of the sequence" : "";
    }
    StreamState initial_state(size_t rows) const override {
        return StreamState(
            {layer_.cell(), layer_.options().num_layers, layer_.options().hidden_size, layer_.carried_inputs()}, rows);
    }
    StreamWorkspace::Sizes stream_sizes(size_t rows) const override {
        return core::stream_sizes(layer_.stack(reads_ids_), rows);
    }
    void run(const LayerRun& r) const override {
        stream_run(layer_.stack(reads_ids_), input_of(*r.inputs[0]), r.states, r.y, r.workspace, r.threads, r.place);
    }

private:
    struct Tape : LayerTape {
        RecurrentTape tape;
    };
    static RecurrentOptions options(const Options& o, const LayerPlace& place, size_t input_size) {
        if ((o.bidirectional ? 2 : 1) * o.num_layers > place.limits.scans)
            refuse({"asks for ", o.num_layers, " layers; their weights are missing"});
        RecurrentOptions r;
        r.cell = o.cell;
        r.input_size = input_size;
        r.hidden_size = o.hidden_size;
        r.num_layers = o.num_layers;
        r.bias = o.bias;
        r.bidirectional = o.bidirectional;
        r.dropout = static_cast<float>(o.dropout);
        r.weight_drop = static_cast<float>(o.weight_drop.value_or(0));
        r.variational = o.variational;
        r.recompute = o.recompute;
        r.window = o.window.value_or(1);
        if (r.window > 1 && place.inputs[0].ids)
            refuse({"reads ids, which a window of several steps cannot; put an embedding in between"});
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
    bool sums_groups() const override { return true; }
    void backward(const LayerBackward& b) {
        if (!b.row_groups) return layer_.backward(b.inputs[0]->x, b.dy, b.output.places(), b.dx[0]);
        layer_.backward(b.inputs[0]->x, b.dy, b.dx[0], b.row_groups,
                        even_groups(b.output.steps, b.output.rows, b.row_groups.count()), groups_);
    }
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
    GroupGradientsMemory groups_;
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

class BatchNormAdapter : public PlacewiseLayer {
public:
    struct Options {
        double eps = 1e-5, momentum = 0.1;
        bool affine = true;
        template <class Self, class Visit>
        static void fields(Self& o, Visit&& visit) {
            visit(usual("eps"), o.eps, Share{});
            visit(usual("momentum"), o.momentum, Share{true});
            visit(usual("affine"), o.affine);
        }
    };
    BatchNormAdapter(const Options& o, const LayerPlace& place)
        : PlacewiseLayer(only_input(place)),
          layer_({width_, static_cast<float>(o.eps), static_cast<float>(o.momentum), o.affine}, place.kernels,
                 place.seed.has_value()) {}

    Parameters parameters() override { return layer_.parameters(); }
    void weights_changed() override { layer_.weights_changed(); }
    void load(const FileValues& values) override { layer_.load(values); }

    std::unique_ptr<LayerTape> make_tape() const override { return std::make_unique<Tape>(); }
    void forward(const LayerForward& f) const override {
        if (!f.train) return PlacewiseLayer::forward(f);
        auto& tape = static_cast<Tape&>(*f.tape);
        const Signal& in = *f.inputs[0];
        tape.places.clear();
        for (size_t t = 0; in.lengths && t < in.steps; ++t)
            for (size_t n = 0; n < in.rows; ++n)
                if (static_cast<int64_t>(t) < in.lengths[n]) tape.places.push_back(t * in.rows + n);
        layer_.forward_in_training(in.x, places(in, tape), f.y, tape.batch);
    }
    void backward(const LayerBackward& b) {
        auto& tape = static_cast<Tape&>(*b.tape);
        const Signal& in = *b.inputs[0];
        if (b.dx[0] && in.lengths) std::fill_n(b.dx[0], in.size(), 0.0f);
        layer_.backward(in.x, b.dy, places(in, tape), b.dx[0], tape.batch);
    }

private:
    struct Tape : LayerTape {
        BatchNormTape batch;
        std::vector<size_t> places;  // within the rows' lengths
    };
    static BatchPlaces places(const Signal& in, const Tape& tape) {
        if (in.lengths) return {tape.places.data(), tape.places.size()};
        return {nullptr, in.places()};
    }
    void map(const Signal* const* inputs, size_t, size_t places, float* y, Buffer&,
             size_t most_threads) const override {
        layer_.forward(inputs[0]->x, places, y, most_threads);
    }
    BatchNorm1d layer_;
};

constexpr LayerType types[] = {
    {"embedding", make<EmbeddingAdapter>},  {"recurrent", make<RecurrentAdapter>},  {"linear", make<LinearAdapter>},
    {"layer_norm", make<LayerNormAdapter>}, {"batch_norm", make<BatchNormAdapter>},
};

}  // namespace

std::unique_ptr<NetworkLayer> make_layer(const std::string& type, const Json& options, const LayerPlace& place,
                                         std::string& written) {
    std::string names;
    for (const LayerTypes& some :
         {LayerTypes{std::begin(types), std::end(types)}, layers_over_time(), layers_of_numbers(), layers_of_layers()})
        for (const LayerType& known : some) {
            if (known.name == type) return known.make(options, place, written);
            names += (names.empty() ? "" : ", ") + std::string(known.name);
        }
    refuse({"there is no such type: expected one of ", names});
}

}  // namespace rnnfast::core
