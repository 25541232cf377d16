// The adapter of layers inside each step: a chain that reads the numbers of a step as a short sequence.
#include <algorithm>

#include "models/network_adapters.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

// [a, b, width] as [b, a, width]
void swap_axes(const float* x, size_t a, size_t b, size_t width, float* y) {
    for (size_t i = 0; i < a; ++i)
        for (size_t j = 0; j < b; ++j, x += width) {
            float* to = y + (j * a + i) * width;
            if (width == 1)
                *to = *x;
            else
                std::copy_n(x, width, to);
        }
}

// A step of the network is called a place here: the inner layers see [steps, places, width].
class TimeDistributedAdapter : public NetworkLayer {
public:
    struct Inner {
        std::unique_ptr<NetworkLayer> layer;
        size_t steps, width;  // that it reads
    };
    // width: of all steps of the last layer's output together
    TimeDistributedAdapter(std::vector<Inner> layers, size_t width) : NetworkLayer(width), layers_(std::move(layers)) {
        for (const Inner& inner : layers_) largest_ = std::max(largest_, inner.steps * inner.width);
        largest_ = std::max(largest_, width);
    }

    Parameters parameters() override {
        Parameters all;
        for (const Inner& inner : layers_)
            for (Parameter* p : inner.layer->parameters()) all.push_back(p);
        return all;
    }
    void weights_changed() override {
        for (const Inner& inner : layers_) inner.layer->weights_changed();
    }
    void load(const FileValues& values) override {
        for (const Inner& inner : layers_) inner.layer->load(values);
    }
    ExpectedTensor expected(const Parameter& p) const override {
        for (const Inner& inner : layers_) {
            const Parameters own = inner.layer->parameters();
            if (std::find(own.begin(), own.end(), &p) != own.end()) return inner.layer->expected(p);
        }
        return NetworkLayer::expected(p);
    }

    std::unique_ptr<LayerTape> make_tape() const override {
        auto tape = std::make_unique<Tape>();
        for (const Inner& inner : layers_) tape->layers.push_back(inner.layer->make_tape());
        return tape;
    }
    void forward(const LayerForward& f) const override {
        auto& tape = static_cast<Tape&>(*f.tape);
        if (!training || !f.train)
            run({f.inputs.data(), f.inputs.size(), f.output, nullptr, f.y, tape.workspace});
        else
            forward_places(f, tape);
    }
    void backward(const LayerBackward& b) {
        auto& tape = static_cast<Tape&>(*b.tape);
        const size_t places = b.output.places();
        if (places == 1) tape.signals[0].x = b.inputs[0]->x;
        for (Buffer& gradient : tape.gradients) gradient.reserve(places * largest_);
        float *dy = tape.gradients[0].data(), *dx = tape.gradients[1].data();
        swap_axes(b.dy, places, last_steps(), last_width(), dy);
        size_t first = 0;  // the layer where gradients end
        while (!b.dx[0] && first < layers_.size() && layers_[first].layer->parameters().empty()) ++first;
        for (size_t i = layers_.size(); i-- > first; std::swap(dy, dx)) {
            const std::vector<const Signal*> inputs = {&tape.signals[i]};
            const std::vector<float*> wanted = {i > first || b.dx[0] ? dx : nullptr};
            layers_[i].layer->backward({inputs, tape.signals[i + 1], dy, wanted, tape.layers[i].get(), b.scratch});
        }
        if (b.dx[0]) swap_axes(dy, layers_[0].steps, places, layers_[0].width, b.dx[0]);
    }

    StreamWorkspace::Sizes stream_sizes(size_t rows) const override {
        StreamWorkspace::Sizes sizes;
        sizes.between = sizes.windows = rows * largest_;
        for (const Inner& inner : layers_)
            sizes.left = std::max(sizes.left, inner.layer->stream_sizes(rows * inner.steps).left);
        return sizes;
    }
    void run(const LayerRun& r) const override {
        const size_t places = r.output.places(), block = block_of(places);
        for (size_t first = 0; first < places; first += block) run_places(r, {first, std::min(first + block, places)});
    }

private:
    struct Tape : LayerTape {
        std::vector<Signal> signals;  // the input, then what each layer gave
        std::vector<Buffer> values;
        std::vector<std::vector<int64_t>> lengths;
        std::vector<std::unique_ptr<LayerTape>> layers;
        Buffer gradients[2];
        StreamWorkspace workspace;  // instead of all these, without training
    };
    size_t last_width() const { return layers_.back().layer->width(); }
    size_t last_steps() const { return width_ / last_width(); }
    // Places that run together, so that what lies between two layers stays in the cache.
    size_t block_of(size_t places) const {
        constexpr size_t numbers = 1 << 18;
        return std::clamp<size_t>(numbers / largest_, 1, std::max<size_t>(places, 1));
    }
    // The shape of a layer's input, or, after the last one, of the output.
    Signal shape(size_t i, size_t places) const {
        if (i == layers_.size()) return {last_steps(), places, last_width()};
        return {layers_[i].steps, places, layers_[i].width};
    }

    // Places beyond the lengths of their rows have no inner steps, and zeros there.
    void set_lengths(const Signal& in, Tape& tape) const {
        tape.lengths.resize(layers_.size() + 1);
        for (size_t i = 0; i <= layers_.size(); ++i) {
            tape.lengths[i].clear();
            for (size_t p = 0; in.lengths && p < in.places(); ++p) {
                const bool within = static_cast<int64_t>(p / in.rows) < in.lengths[p % in.rows];
                tape.lengths[i].push_back(within ? static_cast<int64_t>(tape.signals[i].steps) : 0);
            }
            if (in.lengths) tape.signals[i].lengths = tape.lengths[i].data();
        }
    }

    static void clear_padding(const Signal& s, float* values) {
        for (size_t p = 0; s.lengths && p < s.rows; ++p)
            for (size_t t = 0; s.lengths[p] == 0 && t < s.steps; ++t)
                std::fill_n(values + (t * s.rows + p) * s.width, s.width, 0.0f);
    }

    // Keeps what backward reads.
    void forward_places(const LayerForward& f, Tape& tape) const {
        const Signal& in = *f.inputs[0];
        const size_t count = in.places();
        tape.signals.clear();
        tape.values.resize(layers_.size() + 1);
        for (size_t i = 0; i <= layers_.size(); ++i) tape.signals.push_back(shape(i, count));
        set_lengths(in, tape);
        tape.signals[0].x = in.x;
        if (count > 1) {
            tape.values[0].reserve(tape.signals[0].size());
            swap_axes(in.x, count, layers_[0].steps, layers_[0].width, tape.values[0].data());
            tape.signals[0].x = tape.values[0].data();
        }
        for (size_t i = 0; i < layers_.size(); ++i) {
            Signal& out = tape.signals[i + 1];
            tape.values[i + 1].reserve(out.size());
            const std::vector<const Signal*> inputs = {&tape.signals[i]};
            LayerForward inner{inputs, out, tape.values[i + 1].data(), tape.layers[i].get(), f.scratch};
            inner.train = true;
            layers_[i].layer->forward(inner);
            clear_padding(out, inner.y);
            out.x = inner.y;
        }
        swap_axes(tape.signals.back().x, last_steps(), count, last_width(), f.y);
    }

    // In the workspace of a stream.
    void run_places(const LayerRun& r, Range places) const {
        Buffer *from = &r.workspace.between, *to = &r.workspace.windows;
        const size_t count = places.size();
        const Signal& given = *r.inputs[0];
        for (Buffer* buffer : {from, to}) buffer->reserve(count * largest_);
        Signal in = shape(0, count);
        in.x = given.x + places.begin * given.width;
        if (count > 1) {
            swap_axes(in.x, count, in.steps, in.width, from->data());
            in.x = from->data();
        }
        float* y = r.y + places.begin * width_;
        for (size_t i = 0; i < layers_.size(); ++i, std::swap(from, to)) {
            const bool last = count == 1 && i + 1 == layers_.size();
            Signal out = shape(i + 1, count);
            const Signal* inputs[] = {&in};
            float* values = last ? y : to->data();
            layers_[i].layer->run_whole({inputs, 1, out, nullptr, values, r.workspace, r.threads});
            in = out;
            in.x = values;
        }
        if (count > 1) swap_axes(in.x, in.steps, count, in.width, y);
    }

    std::vector<Inner> layers_;
    size_t largest_ = 0;  // numbers between two layers, of one place
};

// A layer's description without its type.
Json options_of(const Json& layer, std::string& type) {
    Json options;
    options.kind = Json::Kind::object;
    for (const auto& member : layer.members) {
        if (member.first != "type")
            options.members.push_back(member);
        else if (member.second.kind == Json::Kind::string)
            type = member.second.string;
    }
    return options;
}

// One inner layer, and the shape of what it gives.
TimeDistributedAdapter::Inner make_inner(const Json& json, size_t steps, const LayerPlace& place,
                                         std::string& written) {
    if (json.kind != Json::Kind::object) refuse({"must be an object"});
    std::string type, options;
    const Json rest = options_of(json, type);
    auto layer = make_layer(type, rest, place, options);
    if (!layer->runs_whole())
        refuse(
            {"cannot run inside a step; dropout, recurrent and attention layers stand before or after "
             "time_distributed"});
    const size_t given = layer->output_steps(steps), most = std::min<size_t>(place.limits.numbers, 0x7fffffff);
    if (given == 0) refuse({"needs more than the ", steps, " steps it reads"});
    if (layer->width() > most / given)
        refuse({"makes ", given, " steps of ", layer->width(), " numbers, more than the weights justify"});
    written += (written.empty() ? "" : ",") + std::string("{\"type\":") + json_quoted(type) +
               (options == "{}" ? "}" : "," + options.substr(1));
    return {std::move(layer), steps, place.inputs[0].width};
}

std::unique_ptr<NetworkLayer> make_time_distributed(const Json& json, const LayerPlace& place, std::string& written) {
    const size_t inputs = only_input(place);
    size_t steps = 0;
    check_known(json, {"steps", "layers"});
    OptionsReader{json}(required("steps"), steps, Size{1});
    if (inputs % steps) refuse({"reads ", inputs, " numbers a step, expected a multiple of ", steps, ", its steps"});
    const Json* list = json.find("layers");
    if (!list || list->kind != Json::Kind::array || list->items.empty())
        refuse({"layers must be a list of at least one object"});
    std::vector<TimeDistributedAdapter::Inner> layers;
    std::string all;
    size_t width = inputs / steps, now = steps;
    NetworkLimits left = place.limits;
    for (const Json& item : list->items) {
        const std::string number = std::to_string(layers.size());
        try {
            const LayerPlace own{
                {{width, false}}, place.weights, part_seed(place.seed, layers.size() + 1), place.kernels, left};
            layers.push_back(make_inner(item, now, own, all));
        } catch (const std::invalid_argument& error) {
            refuse({"its layer ", number, ": ", error.what()});
        }
        NetworkLayer& made = *layers.back().layer;
        for (Parameter* p : made.parameters()) p->name = number + "." + p->name;
        now = made.output_steps(now);
        width = made.width();
        left.numbers -= now * width;
    }
    written = "{\"steps\":" + std::to_string(steps) + ",\"layers\":[" + all + "]}";
    auto layer = std::make_unique<TimeDistributedAdapter>(std::move(layers), now * width);
    if constexpr (training)
        layer->set_backward(
            [](NetworkLayer& made, const LayerBackward& b) { static_cast<TimeDistributedAdapter&>(made).backward(b); });
    return layer;
}

constexpr LayerType types[] = {{"time_distributed", make_time_distributed}};

}  // namespace

LayerTypes layers_of_layers() { return {std::begin(types), std::end(types)}; }

}  // namespace rnnfast::core
