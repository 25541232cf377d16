#include "layers/recurrent.h"

#include <algorithm>
#include <stdexcept>

#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

void check(const RecurrentOptions& o) {
    const auto fail = [](const std::string& text) { refuse({text}); };
    if (o.hidden_size == 0) fail("hidden_size is 0: expected at least 1");
    if (o.num_layers == 0) fail("num_layers is 0: expected at least 1");
    constexpr size_t most = 0x7fffffff;  // products of two sizes then fit 64 bits
    if (std::max({o.input_size, o.fixed_size, o.hidden_size, o.num_layers}) > most)
        fail("input_size, hidden_size and num_layers must be at most " + std::to_string(most));
    if (o.recompute && o.fixed_size) fail("recompute and fixed inputs: expected one of them");
    if (o.window != 1 && o.window != 2) fail("window is " + std::to_string(o.window) + ": expected 1 or 2");
    const CellInfo& cell = cell_named(o.cell);
    if (o.window > 1 && (cell.recurrent || cell.highway || o.fixed_size))
        fail(
            "window is 2: expected a cell without a recurrent product and a highway, such as qrnn, and no fixed "
            "inputs");
    if (!(o.weight_drop >= 0.0f && o.weight_drop < 1.0f))
        fail("weight_drop is " + std::to_string(o.weight_drop) + ": expected at least 0 and less than 1");
    if (o.weight_drop > 0.0f && !cell.recurrent)
        fail("weight_drop: the cell '" + o.cell + "' has no recurrent weights; expected a cell that has, such as lstm");
    if (!(o.dropout >= 0.0f && o.dropout < 1.0f))
        fail("dropout is " + std::to_string(o.dropout) + ": expected at least 0 and less than 1");
}

}  // namespace

void check_window(const char* option, size_t window, const std::string& cell) {
    const std::string given = std::string(option) + " is " + std::to_string(window);
    if (window != 1 && window != 2) refuse({given, ": expected 1 or 2"});
    if (window == 2 && cell != "qrnn")
        refuse({given, " and the cell '", cell,
                "': expected the cell 'qrnn', whose gates can read two steps of input, or ", option, " 1"});
}

Recurrent::Recurrent(RecurrentOptions options, std::optional<uint64_t> seed, const Kernels& kernels,
                     const std::string& prefix)
    : options_((check(options), std::move(options))),
      cell_(&cell_named(options_.cell)),
      kernels_(&kernels),
      packed_(std::make_unique<PackedScans>()) {
    for (size_t scan = 0; scan < scans(); ++scan) add_scan(scan, seed, prefix);
    packed_->scans = unpacked();
}

size_t Recurrent::inputs_of(size_t scan) const {
    const size_t read =
        scan < directions() ? options_.input_size + options_.fixed_size : directions() * options_.hidden_size;
    return options_.window * read;
}

// A highway reads x alone, so beside fixed inputs it goes through the gates.
const CellInfo& Recurrent::cell_of(size_t scan) const {
    const bool fixed = scan < directions() && options_.fixed_size;
    return cell_->reading(fixed ? 0 : inputs_of(scan), options_.hidden_size);
}

void Recurrent::add_scan(size_t scan, std::optional<uint64_t> seed, const std::string& prefix) {
    const CellInfo& cell = cell_of(scan);
    const size_t hidden = options_.hidden_size, inputs = inputs_of(scan);
    const std::string number = options_.single ? "" : "_l" + std::to_string(scan / directions());
    const std::string suffix = number + (scan % directions() ? "_reverse" : "");
    const auto add = [&](const std::string& name, std::vector<size_t> shape, CellWeight kind) {
        const size_t gates = shape[0] / hidden;
        parameters.push_back(make_parameter(prefix + name + suffix, std::move(shape), seed.has_value()));
        Parameter& p = parameters.back();
        const uint64_t key = random_key(seed.value_or(0), parameters.size());
        for (size_t gate = 0; gate < gates; ++gate) {
            const Range own{gate * p.size() / gates, (gate + 1) * p.size() / gates};
            const Start start = cell.start(kind, gate, inputs, hidden);
            uniform_(p, own, start.bound, key);
            for (size_t i = own.begin; start.mean != 0 && i < own.end; ++i)
                p.value.data()[i] += static_cast<float>(start.mean);
        }
        return &p;
    };
    const size_t rows = cell.gates * hidden;
    Names p{};
    if (inputs) p.weight_ih = add("weight_ih", {rows, inputs}, CellWeight::input);
    if (cell.recurrent) p.weight_hh = add("weight_hh", {rows, hidden}, CellWeight::recurrent);
    if (options_.bias) p.bias_ih = add("bias_ih", {rows}, CellWeight::bias);
    if (options_.bias && cell.recurrent) p.bias_hh = add("bias_hh", {rows}, CellWeight::bias);
    if (cell.state_reads.count) p.weight_c = add("weight_c", {cell.state_reads.count * hidden}, CellWeight::state);
    named_.push_back(p);
}

void Recurrent::pack(const FileValues& values, bool token_input) {
    Buffer buffers[5];
    const auto of = [&](const Parameter* p, Buffer& buffer) { return p ? values(*p, buffer) : nullptr; };
    for (size_t scan = 0; scan < scans(); ++scan) {
        const Names& p = named_[scan];
        packed_->scans[scan].pack({of(p.weight_ih, buffers[0]), of(p.weight_hh, buffers[1]), of(p.bias_ih, buffers[2]),
                                   of(p.bias_hh, buffers[3]), of(p.weight_c, buffers[4])},
                                  token_input && scan < directions());
    }
    (token_input ? packed_->tokens : packed_->dense) = true;
}

std::vector<ScanWeights> Recurrent::unpacked() const {
    std::vector<ScanWeights> all;
    for (size_t scan = 0; scan < scans(); ++scan) {
        const size_t apart = scan >= directions() || joins_fixed() ? 0 : options_.fixed_size;
        all.emplace_back(*kernels_, cell_of(scan), options_.weights, inputs_of(scan) - apart, options_.hidden_size,
                         apart);
    }
    return all;
}

void Recurrent::forget_packed() const {
    packed_->dense = false;
    packed_->tokens = false;
    packed_->back = packed_->back_input = false;
}

void Recurrent::renew_packed() const {
    forget_packed();
    replace_abandoned(packed_->scans, unpacked());
}

void Recurrent::weights_changed() {
    const ForkLock lock(packed_->mutex, [&] { renew_packed(); });
    forget_packed();
    packed_->stamp.renew();
}

ScanParameters Recurrent::scan_parameters(size_t scan) const {
    const auto value = [](const Parameter* p) { return p ? p->value.data() : nullptr; };
    const Names& p = named_[scan];
    return {value(p.weight_ih), value(p.weight_hh), value(p.bias_ih), value(p.bias_hh), value(p.weight_c)};
}

ScanGradients Recurrent::scan_gradients(size_t scan) const {
    const auto gradient = [](Parameter* p) { return p ? p->grad.data() : nullptr; };
    const Names& p = named_[scan];
    return {gradient(p.weight_ih), gradient(p.weight_hh), gradient(p.bias_ih), gradient(p.bias_hh),
            gradient(p.weight_c)};
}

void Recurrent::prepare(bool token_input, bool backward, bool input_gradient) const {
    std::atomic<bool>& ready = token_input ? packed_->tokens : packed_->dense;
    if (!backward && ready.load(std::memory_order_acquire)) return;
    const ForkLock lock(packed_->mutex, [&] { renew_packed(); });
    if (!backward) {
        if (ready.load(std::memory_order_relaxed)) return;
        for (size_t scan = 0; scan < scans(); ++scan)
            packed_->scans[scan].pack(scan_parameters(scan), token_input && scan < directions());
        ready.store(true, std::memory_order_release);
        return;
    }
    if (packed_->back && (packed_->back_input || !input_gradient)) return;
    for (size_t scan = 0; scan < scans(); ++scan)
        packed_->scans[scan].pack_backward(scan_parameters(scan), input_gradient || scan >= directions());
    packed_->back = true;
    packed_->back_input = input_gradient;
}

size_t Recurrent::fixed_part_size() const {
    return options_.fixed_size && !joins_fixed() ? packed_->scans[0].order.columns() : 0;
}

void Recurrent::fixed_part(const float* fixed, size_t rows, float* part, Buffer& scratch) const {
    core::fixed_part(packed(0), {fixed, rows, options_.fixed_size}, part, scratch);
}

Stack Recurrent::layers() const {
    return {packed_->scans.data(),
            options_.num_layers,
            directions(),
            options_.fixed_size,
            {options_.dropout, options_.variational},
            options_.recompute,
            options_.window};
}

Stack Recurrent::layers(const RecurrentTape& tape) const {
    Stack stack = layers();
    if (!tape.dropped.empty()) stack.scans = tape.dropped.data();
    return stack;
}

namespace {

uint64_t weight_key(const RecurrentTape& tape, size_t scan) {
    constexpr uint64_t beyond_layers = 1u << 31;  // whose numbers make the keys of other masks
    return random_key(tape.row_groups.key, beyond_layers + scan);
}

}  // namespace

ScanParameters Recurrent::dropped_parameters(const RecurrentTape& tape, size_t scan) const {
    ScanParameters p = scan_parameters(scan);
    p.weight_hh = tape.dropped_hh[scan].data();
    return p;
}

void Recurrent::pack_dropped(bool token_input, RecurrentTape& tape) const {
    if (tape.dropped.empty()) tape.dropped = unpacked();
    tape.dropped_hh.resize(scans());
    tape.dropped_dhh.resize(scans());
    for (size_t scan = 0; scan < scans(); ++scan) {
        const Parameter& w = *named_[scan].weight_hh;
        tape.dropped_hh[scan].reserve(w.size());
        dropout(w.value.data(), tape.dropped_hh[scan].data(), w.size(), options_.weight_drop, weight_key(tape, scan));
        tape.dropped[scan].pack(dropped_parameters(tape, scan), token_input && scan < directions());
    }
}

void Recurrent::prepare_dropped_backward(RecurrentTape& tape, bool input_gradient) {
    for (size_t scan = 0; scan < scans(); ++scan) {
        tape.dropped[scan].pack_backward(dropped_parameters(tape, scan), input_gradient || scan >= directions());
        Buffer& d = tape.dropped_dhh[scan];
        const size_t size = named_[scan].weight_hh->size();
        d.reserve(size);
        std::fill_n(d.data(), size, 0.0f);
        tape.gradients[scan].weight_hh = d.data();
    }
}

void Recurrent::add_dropped_gradients(RecurrentTape& tape) {
    for (size_t scan = 0; scan < scans(); ++scan) {
        float* d = tape.dropped_dhh[scan].data();
        Parameter& w = *named_[scan].weight_hh;
        dropout(d, d, w.size(), options_.weight_drop, weight_key(tape, scan));
        kernels_->add(w.size(), d, w.grad.data());
    }
}

void Recurrent::check_input(const RecurrentInput& input, bool save) const {
    if (input.tokens && options_.fixed_size)
        refuse({"token input with fixed inputs: expected x, such as rows of an embedding"});
    if (input.tokens && options_.window > 1)
        refuse({"token input with a window of 2: expected x, such as rows of an embedding"});
    if (save && options_.weights == Weights::int8)
        refuse({"int8 weights are for inference only: train with weights \"f32\" or \"bf16\""});
    if (input.part.size() && (!save || options_.recompute || options_.bidirectional || input.tokens))
        refuse({"a sequence in parts: expected training, one direction, x, and no recomputation"});
    if (input.fixed_part && options_.bidirectional)
        refuse({"the part of fixed inputs is for one direction: expected only the inputs"});
}

void Recurrent::forward(const RecurrentInput& input, const RecurrentState& start, float* y,
                        const RecurrentStateOut& end, RecurrentTape& tape, bool save,
                        const RowGroups& row_groups) const {
    check_input(input, save);
    if (input.part.begin == 0) tape.weights = packed_->stamp.now();
    tape.saved = false;
    tape.row_groups = row_groups;
    if (!save || options_.weight_drop == 0) {
        tape.dropped.clear();
        prepare(input.tokens != nullptr, false, false);
    } else if (input.part.begin == 0) {
        pack_dropped(input.tokens != nullptr, tape);
    }
    layers(tape).forward(input, start, y, end, tape, save);
    tape.saved = save;
}

void Recurrent::backward(RecurrentTape& tape, const float* dy, const RecurrentState& dend, float* dx,
                         const RecurrentStateOut& dstart, float* dfixed) {
    if (!tape.saved) refuse({"backward: nothing was saved, or backward was called already; run forward again"});
    check_weights(tape);
    tape.saved = false;
    const bool input_gradient = dstart.x || (dx && options_.input_size) || (dfixed && options_.fixed_size);
    tape.gradients.resize(scans());
    for (size_t scan = 0; scan < scans(); ++scan) tape.gradients[scan] = scan_gradients(scan);
    tape.parameters_of_layer = parameters.size() / options_.num_layers;
    const bool drops = !tape.dropped.empty();
    if (drops) {
        tape.progress = {};  // the gradients of weight_hh are complete at the end
        prepare_dropped_backward(tape, input_gradient);
    } else {
        prepare(false, true, input_gradient);
    }
    layers(tape).backward(tape, {dy, dend, dx, dstart, dfixed});
    if (drops) add_dropped_gradients(tape);
}

}  // namespace rnnfast::core
