#include "models/network.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "ops/elementwise.h"
#include "runtime/check.h"
#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

void NetworkWorkspace::reserve(const Sizes& sizes) {
    StreamWorkspace::reserve(sizes);
    outputs.resize(sizes.outputs.size());
    for (size_t i = 0; i < outputs.size(); ++i) outputs[i].reserve(sizes.outputs[i]);
    signals.resize(sizes.signals);
    arguments.resize(sizes.arguments);
}

namespace {

constexpr size_t most_width = 0x7fffffff;  // products of two sizes then fit 64 bits

[[noreturn]] void refuse_layer(const std::string& layer, const std::string& type, const std::string& reason) {
    refuse({"layer ", json_quoted(layer), " (", type, "): ", reason});
}

}  // namespace

Network::Network(const NetworkDescription& d, std::optional<uint64_t> seed, const Kernels& kernels,
                 const NetworkLimits& limits)
    : kernels_(&kernels), weights_(d.weights), seed_(d.seed), inputs_(d.inputs), trains_(seed.has_value()) {
    if (inputs_.empty() || d.layers.empty())
        refuse({"the network has no ", inputs_.empty() ? "inputs" : "layers", ", expected at least one"});
    std::set<std::string> names;
    const auto check_name = [&](const std::string& name) {
        if (name.empty()) refuse({"a name is empty: inputs and layers need one"});
        if (!names.insert(name).second)
            refuse({"the name ", json_quoted(name), " occurs twice: expected different names"});
    };
    NetworkLimits left = limits;
    for (const NetworkInput& input : inputs_) {
        check_name(input.name);
        if ((input.size == 0) == (input.ids == 0))
            refuse({"input ", json_quoted(input.name),
                    ": expected either size, the numbers of a step, or ids, how many there are"});
        kinds_.push_back({std::max(input.size, input.ids), input.ids != 0});
        left.numbers -= std::min(left.numbers, input.size);
    }
    for (const LayerDescription& layer : d.layers) {
        check_name(layer.name);
        add(layer, seed, left);
        if (kinds_.back().width > left.numbers)
            refuse_layer(layer.name, layer.type, "makes more numbers a step than the weights justify");
        const StreamState state = nodes_.back().layer->initial_state(0);
        const size_t kept = state.layers * state.hidden * (state.cell && state.cell->has_c ? 2 : 1);
        left.numbers -= std::min(left.numbers, kinds_.back().width + kept);
        if (const Recurrent* recurrent = nodes_.back().layer->recurrent()) left.scans -= recurrent->scans();
    }
    for (const std::string& name : d.outputs) {
        outputs_.push_back(signal_named(name));
        if (outputs_.back() < inputs_.size())
            refuse({"the output ", json_quoted(name), " is an input: expected a layer"});
    }
    if (outputs_.empty()) outputs_.push_back(kinds_.size() - 1);
    name_parameters();
    lay_out();
}

size_t Network::signal_named(const std::string& name) const {
    for (size_t i = 0; i < inputs_.size(); ++i)
        if (inputs_[i].name == name) return i;
    for (size_t i = 0; i < nodes_.size(); ++i)
        if (nodes_[i].name == name) return inputs_.size() + i;
    refuse({"nothing before this is called ", json_quoted(name), ": expected an input or a layer above it"});
}

size_t Network::layer_named(const std::string& name) const {
    for (size_t i = 0; i < nodes_.size(); ++i)
        if (nodes_[i].name == name) return i;
    refuse({"the network has no layer ", json_quoted(name)});
}

void Network::add(const LayerDescription& d, std::optional<uint64_t> seed, const NetworkLimits& limits) {
    Node node;
    node.name = d.name;
    node.type = d.type;
    node.part = d.part ? d.part : nodes_.size() + 1;
    try {
        for (const std::string& name : d.inputs) node.inputs.push_back(signal_named(name));
        if (node.inputs.empty()) node.inputs.push_back(nodes_.empty() ? 0 : kinds_.size() - 1);
        LayerPlace place{{}, weights_, part_seed(seed, node.part), *kernels_, limits};
        for (const size_t signal : node.inputs) place.inputs.push_back(kinds_[signal]);
        node.layer = make_layer(d.type, d.options, place, node.options);
        if (node.layer->width() > most_width)
            refuse({"makes ", node.layer->width(), " numbers a step, expected at most ", most_width});
    } catch (const std::invalid_argument& error) {
        refuse_layer(d.name, d.type, error.what());
    }
    kinds_.push_back({node.layer->width(), false});
    nodes_.push_back(std::move(node));
}

// A layer's parameters are called name.parameter.
void Network::name_parameters() {
    std::set<std::string> names;
    for (Node& node : nodes_) {
        node.first_parameter = parameters_.size();
        for (Parameter* p : node.layer->parameters()) {
            p->name = node.name + "." + p->name;
            if (!names.insert(p->name).second)
                refuse({"two parameters are called ", json_quoted(p->name), ": expected other names of layers"});
            parameters_.push_back(p);
        }
    }
}

// What follows from all layers together: which may overwrite their input, and which signals need a gradient.
void Network::lay_out() {
    std::vector<size_t> readers(kinds_.size());
    for (const Node& node : nodes_)
        for (const size_t signal : node.inputs) ++readers[signal];
    for (const size_t signal : outputs_) ++readers[signal];
    learns_.assign(kinds_.size(), false);
    for (size_t i = 0; i < nodes_.size(); ++i) {
        Node& node = nodes_[i];
        const size_t from = node.inputs[0];
        node.in_place = node.layer->in_place() && from >= inputs_.size() && readers[from] == 1 &&
                        !nodes_[from - inputs_.size()].layer->backward_reads_y();
        node.has_state = node.layer->initial_state(0).layers != 0;
        if (node.layer->recurrent()) {
            node.recurrent = recurrent_.size();
            recurrent_.push_back(i);
        }
        bool learns = !node.layer->parameters().empty();
        for (const size_t signal : node.inputs) learns = learns || learns_[signal];
        learns_[inputs_.size() + i] = learns;
        most_inputs_ = std::max(most_inputs_, node.inputs.size());
    }
}

void Network::load(const FileValues& values) {
    for (const Node& node : nodes_) node.layer->load(values);
}

std::vector<ExpectedTensor> Network::expected_tensors() const {
    std::vector<ExpectedTensor> all;
    for (const Node& node : nodes_)
        for (const Parameter* p : node.layer->parameters()) all.push_back(node.layer->expected(*p));
    return all;
}

void Network::weights_changed() {
    for (const Node& node : nodes_) node.layer->weights_changed();
    stamp_.renew();
}

namespace {

// Zeros, or id 0, beyond the rows' lengths.
template <class T>
void clear_padding(const Signal& s, size_t width, T* values) {
    for (size_t n = 0; s.lengths && n < s.rows; ++n)
        for (auto t = static_cast<size_t>(s.lengths[n]); t < s.steps; ++t)
            std::fill_n(values + (t * s.rows + n) * width, width, T(0));
}

bool ragged(const Signal& s) {
    return s.lengths && std::any_of(s.lengths, s.lengths + s.rows,
                                    [&](int64_t length) { return static_cast<size_t>(length) < s.steps; });
}

bool equal_lengths(const Signal& a, const Signal& b) {
    if (a.steps != b.steps) return false;
    for (size_t n = 0; (a.lengths || b.lengths) && n < a.rows; ++n) {
        const auto steps = static_cast<int64_t>(a.steps);
        if ((a.lengths ? a.lengths[n] : steps) != (b.lengths ? b.lengths[n] : steps)) return false;
    }
    return true;
}

}  // namespace

// Inputs with padding are copied, and the copies hold zeros there.
void Network::set_inputs(const Signal* given, NetworkTape& tape) const {
    const size_t count = kinds_.size();
    tape.signals.assign(count, {});
    tape.values.resize(count);
    tape.gradients.resize(count);
    tape.lengths.resize(count);
    tape.ids.resize(inputs_.size());
    tape.layers.resize(nodes_.size());
    tape.grouped.resize(nodes_.size());
    tape.added.resize(most_inputs_);
    for (size_t i = 0; i < inputs_.size(); ++i) {
        Signal& s = tape.signals[i] = given[i];
        s.width = kinds_[i].width;
        if (s.steps == 0) refuse({"the input has no steps, expected at least one"});
        if (s.steps != given[0].steps || s.rows != given[0].rows)
            refuse({"input ", json_quoted(inputs_[i].name), " has ", s.steps, " steps of ", s.rows, " rows, ",
                    json_quoted(inputs_[0].name), " has ", given[0].steps, " of ", given[0].rows,
                    "; expected the same"});
        if (s.lengths) check_lengths(s.lengths, s.rows, {0, s.steps});
        if (!ragged(s)) {
            s.lengths = nullptr;
        } else if (s.ids) {
            tape.ids[i].assign(s.ids, s.ids + s.places());
            clear_padding(s, 1, tape.ids[i].data());
            s.ids = tape.ids[i].data();
        } else {
            tape.values[i].reserve(s.size());
            std::copy_n(s.x, s.size(), tape.values[i].data());
            clear_padding(s, s.width, tape.values[i].data());
            s.x = tape.values[i].data();
        }
        check_input_ids(i, s);
    }
}

void Network::check_input_ids(size_t i, const Signal& s) const {
    if (inputs_[i].ids) check_ids(s.ids, s.places(), {inputs_[i].ids, "id", "the network's input"});
}

// The shape and the lengths of what a layer gives.
void Network::set_output(size_t i, NetworkTape& tape) const {
    const Node& node = nodes_[i];
    const size_t signal = inputs_.size() + i;
    const Signal& in = tape.signals[node.inputs[0]];
    for (const size_t other : node.inputs)
        if (!equal_lengths(in, tape.signals[other]))
            refuse_layer(node.name, node.type,
                         "reads sequences of different lengths: expected the same number of steps");
    Signal& out = tape.signals[signal];
    out.rows = in.rows;
    out.width = kinds_[signal].width;
    out.steps = node.layer->output_steps(in.steps);
    if (out.steps == 0)
        refuse_layer(node.name, node.type,
                     "needs more than the " + std::to_string(in.steps) + " steps it reads; give longer sequences");
    if (!in.lengths) return;
    std::vector<int64_t>& lengths = tape.lengths[signal];
    lengths.resize(in.rows);
    for (size_t n = 0; n < in.rows; ++n)
        lengths[n] = static_cast<int64_t>(node.layer->output_steps(static_cast<size_t>(in.lengths[n])));
    out.lengths = lengths.data();
    if (!ragged(out)) out.lengths = nullptr;
}

void Network::forward(const Sequence& sequence, NetworkTape& tape, bool train, const RowGroups& row_groups) const {
    if (train && !trains_) throw std::logic_error("this network was made from a file, for inference only");
    if (train && weights_ == Weights::int8)
        refuse({"int8 weights are for inference only: train with weights \"f32\" or \"bf16\""});
    if (train) set_unfinished(parameters_.size());
    tape.saved = false;
    tape.weights = stamp_.now();
    tape.row_groups = row_groups;
    set_inputs(sequence.inputs, tape);
    if (row_groups) check_groups(row_groups, tape.signals[0].rows);
    if (const std::string reason = row_groups ? no_groups() : ""; !reason.empty()) refuse({reason});
    std::vector<const Signal*> inputs;
    for (size_t i = 0; i < nodes_.size(); ++i) {
        const Node& node = nodes_[i];
        const size_t signal = inputs_.size() + i, from = node.inputs[0];
        Signal& out = tape.signals[signal];
        if (node.layer->only_trains() && !train) {
            out = tape.signals[from];
            continue;
        }
        set_output(i, tape);
        const bool in_place = node.in_place && tape.signals[from].x == tape.values[from].data();
        Buffer& values = tape.values[in_place ? from : signal];
        if (!in_place) values.reserve(out.size());
        if (!tape.layers[i]) tape.layers[i] = node.layer->make_tape();
        inputs.clear();
        for (const size_t input : node.inputs) inputs.push_back(&tape.signals[input]);
        LayerForward f{inputs, out, values.data(), tape.layers[i].get(), tape.scratch};
        if (node.recurrent != none && sequence.start) f.start = sequence.start[node.recurrent];
        if (node.recurrent != none && sequence.end) f.end = sequence.end[node.recurrent];
        f.train = train;
        f.row_groups = row_groups.of_part(node.part - 1);
        if (f.tape && runs_in_groups(node, row_groups))
            forward_groups(*node.layer, f, tape.grouped[i]);
        else
            node.layer->forward(f);
        clear_padding(out, out.width, values.data());
        out.x = values.data();
    }
    tape.saved = train;
}

bool Network::runs_in_groups(const Node& node, const RowGroups& groups) const {
    return groups && !node.layer->sums_groups() && !node.layer->parameters().empty();
}

std::string Network::no_groups() const {
    for (const Node& node : nodes_)
        if (const std::string reason = node.layer->no_groups(); !reason.empty())
            return "layer " + json_quoted(node.name) + " (" + node.type + ") takes no groups of rows: " + reason +
                   "; run each group alone";
    return {};
}

void Network::check_tape(const NetworkTape& tape) const {
    if (!tape.saved) refuse({"backward: nothing was saved, or it was used already; run forward again"});
    stamp_.check(tape.weights);
}

// Where a layer writes the gradient of one of its inputs: `added` if others have written there before.
float* Network::gradient_of(size_t signal, const Node& node, NetworkTape& tape, BackwardPass& pass,
                            Buffer& added) const {
    const bool is_input = signal < inputs_.size();
    float* wanted = is_input && pass.dx ? pass.dx[signal] : nullptr;
    if (is_input ? !wanted : !learns_[signal] && !pass.all_wanted) return nullptr;
    const size_t size = tape.signals[signal].size();
    if (pass.gradient[signal]) {
        added.reserve(size);
        return added.data();
    }
    if (is_input) return pass.gradient[signal] = wanted;
    if (node.layer->in_place()) return pass.gradient[signal] = pass.dy;
    tape.gradients[signal].reserve(size);
    return pass.gradient[signal] = tape.gradients[signal].data();
}

void Network::layer_backward(size_t i, NetworkTape& tape, BackwardPass& pass, const Gradients& g) {
    const Node& node = nodes_[i];
    const Signal& out = tape.signals[inputs_.size() + i];
    pass.dy = pass.gradient[inputs_.size() + i];
    if (pass.dy) clear_padding(out, out.width, pass.dy);
    if (float* wanted = g.dlayer ? g.dlayer[i] : nullptr) {
        if (pass.dy)
            std::copy_n(pass.dy, out.size(), wanted);
        else
            std::fill_n(wanted, out.size(), 0.0f);
    }
    RecurrentState dend;
    RecurrentStateOut dstart;
    if (node.recurrent != none && g.dend) dend = g.dend[node.recurrent];
    if (node.recurrent != none && g.dstart) dstart = g.dstart[node.recurrent];
    if (!pass.dy && !dend.h && !dend.c && !dend.x) {  // nothing comes back to this layer
        const Recurrent* layer = node.layer->recurrent();
        const size_t size = layer ? layer->scans() * out.rows * layer->options().hidden_size : 0;
        for (float* d : {dstart.h, dstart.c})
            if (d) std::fill_n(d, size, 0.0f);
        if (dstart.x) std::fill_n(dstart.x, out.rows * layer->options().input_size, 0.0f);
        return;
    }
    std::vector<const Signal*> inputs;
    std::vector<float*> dx;
    for (size_t j = 0; j < node.inputs.size(); ++j) {
        inputs.push_back(&tape.signals[node.inputs[j]]);
        dx.push_back(gradient_of(node.inputs[j], node, tape, pass, tape.added[j]));
    }
    LayerBackward b{inputs, out, pass.dy, dx, tape.layers[i].get(), tape.scratch, dend, dstart};
    b.row_groups = tape.row_groups.of_part(node.part - 1);
    b.progress = {&unfinished_, node.first_parameter};
    if (runs_in_groups(node, tape.row_groups))
        backward_groups(*kernels_, *node.layer, b, tape.grouped[i]);
    else
        node.layer->backward(b);
    for (size_t j = 0; j < dx.size(); ++j)
        if (float* sum = pass.gradient[node.inputs[j]]; dx[j] && dx[j] != sum)
            core::add(*kernels_, inputs[j]->size(), dx[j], sum);
}

void Network::backward(NetworkTape& tape, const Gradients& g) {
    check_tape(tape);
    tape.saved = false;
    if (g.weights && tape.row_groups) {
        tape.row_groups.sums.weights = *g.weights;
        check_groups(tape.row_groups, tape.signals[0].rows);
    }
    check_memory_of_groups(parameters_, tape.row_groups);
    BackwardPass pass;
    pass.dx = g.dx;
    for (size_t i = 0; g.dx && i < inputs_.size(); ++i) pass.all_wanted = pass.all_wanted || g.dx[i];
    for (size_t i = 0; g.dlayer && i < nodes_.size(); ++i) pass.all_wanted = pass.all_wanted || g.dlayer[i];
    pass.gradient.assign(kinds_.size(), nullptr);
    for (size_t i = 0; i < outputs_.size(); ++i) {
        float*& sum = pass.gradient[outputs_[i]];
        if (sum && g.dy[i]) core::add(*kernels_, tape.signals[outputs_[i]].size(), g.dy[i], sum);
        if (!sum) sum = g.dy[i];
    }
    for (size_t i = nodes_.size(); i-- > 0;) {
        layer_backward(i, tape, pass, g);
        set_unfinished(nodes_[i].first_parameter);
    }
    for (size_t i = 0; g.dx && i < inputs_.size(); ++i) {
        if (!g.dx[i]) continue;
        if (!pass.gradient[i]) std::fill_n(g.dx[i], tape.signals[i].size(), 0.0f);
        clear_padding(tape.signals[i], tape.signals[i].width, g.dx[i]);
    }
}

size_t Network::output_steps(size_t output, size_t steps) const {
    std::vector<size_t> of(kinds_.size(), steps);
    for (size_t i = 0; i < nodes_.size(); ++i)
        of[inputs_.size() + i] = nodes_[i].layer->output_steps(of[nodes_[i].inputs[0]]);
    return of[outputs_[output]];
}

bool Network::output_summarizes(size_t output) const { return summaries()[outputs_[output]]; }

std::vector<bool> Network::summaries() const {
    std::vector<bool> all(kinds_.size(), false);
    for (size_t i = 0; i < nodes_.size(); ++i) {
        bool after = nodes_[i].layer->summarizes();
        for (const size_t signal : nodes_[i].inputs) after = after || all[signal];
        all[inputs_.size() + i] = after;
    }
    return all;
}

std::string Network::no_stream() const {
    const std::vector<bool> summary = summaries();
    for (size_t i = 0; i < nodes_.size(); ++i) {
        const Node& node = nodes_[i];
        const std::string layer =
            "layer " + json_quoted(node.name) + " (" + node.type + ") cannot run one step at a time: ";
        if (const std::string reason = node.layer->no_stream(); !reason.empty()) return layer + reason;
        bool after = false;
        for (const size_t signal : node.inputs) after = after || summary[signal];
        if (after && node.has_state) return layer + "it reads what a pool makes of a whole sequence";
    }
    return {};
}

std::vector<size_t> Network::with_state() const {
    std::vector<size_t> positions;
    for (size_t i = 0; i < nodes_.size(); ++i)
        if (nodes_[i].has_state) positions.push_back(i);
    return positions;
}

std::vector<StreamState> Network::initial_states(size_t rows) const {
    std::vector<StreamState> states;
    for (const Node& node : nodes_)
        if (node.has_state) states.push_back(node.layer->initial_state(rows));
    return states;
}

NetworkWorkspace::Sizes Network::stream_sizes(size_t rows) const {
    NetworkWorkspace::Sizes sizes;
    sizes.signals = kinds_.size();
    sizes.arguments = most_inputs_;
    for (const Node& node : nodes_) {
        sizes.cover(node.layer->stream_sizes(rows));
        sizes.outputs.push_back(node.layer->only_trains() ? 0 : rows * node.layer->width());
    }
    return sizes;
}

void Network::run(const Signal* inputs, StreamState* const* states, NetworkWorkspace& m, size_t threads,
                  bool joined) const {
    const size_t steps = inputs[0].steps, rows = inputs[0].rows;
    StreamPlace place;
    m.signals.resize(kinds_.size());
    m.outputs.resize(nodes_.size());
    m.arguments.resize(most_inputs_);
    for (size_t i = 0; i < inputs_.size(); ++i) {
        m.signals[i] = inputs[i];
        m.signals[i].width = kinds_[i].width;
        check_input_ids(i, inputs[i]);
    }
    for (size_t i = 0; i < nodes_.size(); ++i) {
        const Node& node = nodes_[i];
        Signal& out = m.signals[inputs_.size() + i];
        if (node.layer->only_trains()) {
            out = m.signals[node.inputs[0]];
            continue;
        }
        out = {steps, rows, node.layer->width()};
        m.outputs[i].reserve(out.size());
        float* y = m.outputs[i].data();
        for (size_t j = 0; j < node.inputs.size(); ++j) m.arguments[j] = &m.signals[node.inputs[j]];
        node.layer->run({m.arguments.data(), node.inputs.size(), out, states, y, m, threads, place});
        out.x = y;
        if (!node.has_state) continue;
        if (!joined) {
            states += states[0]->rows == rows ? 1 : rows;
            continue;
        }
        place.layer += node.layer->recurrent()->options().num_layers;
        place.input += node.layer->recurrent()->carried_inputs();
    }
}

}  // namespace rnnfast::core
