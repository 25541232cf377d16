#include "layers/recurrent_function.h"

#include <stdexcept>

#include "runtime/fingerprint.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

RecurrentFunction::RecurrentFunction(RecurrentOptions options, const Kernels& kernels)
    : options_(std::move(options)), cell_(&cell_named(options_.cell)), kernels_(&kernels), shape_(unpacked()) {}

std::vector<ScanWeights> RecurrentFunction::unpacked() const {
    std::vector<ScanWeights> all;
    for (size_t scan = 0; scan < scans(); ++scan) {
        const size_t inputs = scan < directions() ? options_.input_size : directions() * options_.hidden_size;
        all.emplace_back(*kernels_, *cell_, options_.weights, inputs, options_.hidden_size);
    }
    return all;
}

Stack RecurrentFunction::stack(const RecurrentCall& call, const std::vector<ScanWeights>& scans) const {
    Stack s;
    s.scans = scans.data();
    s.layers = options_.num_layers;
    s.directions = directions();
    s.dropout = {call.dropout, false};
    return s;
}

size_t RecurrentFunction::saved_floats(size_t total) const { return stack({}, shape_).saved_floats(total); }

std::shared_ptr<const std::vector<ScanWeights>> RecurrentFunction::packed(
    const std::vector<ScanParameters>& parameters) const {
    auto all = std::make_shared<std::vector<ScanWeights>>(unpacked());
    for (size_t scan = 0; scan < scans(); ++scan) (*all)[scan].pack(parameters[scan], false);
    return all;
}

// Weights that one product reads are not worth a copy.
bool RecurrentFunction::borrow(const RecurrentCall& call, Workspace& own) const {
    const bool borrows = call.input.steps == 1 && options_.weights == Weights::f32;
    for (ScanWeights& scan : own.scans) scan.borrows = borrows;
    return borrows;
}

// In training the weights have changed since the last call, so that comparing them costs more than it saves.
void RecurrentFunction::pack(const RecurrentCall& call, Workspace& own) const {
    if (own.scans.empty()) own.scans = unpacked();
    if (borrow(call, own)) {
        own.filled = false;
        for (size_t scan = 0; scan < scans(); ++scan) own.scans[scan].pack(call.parameters[scan], false);
        return;
    }
    uint64_t fingerprint = 0;
    for (size_t scan = 0; !call.saved && scan < scans(); ++scan) {
        const ScanParameters& p = call.parameters[scan];
        const size_t rows = cell_->gates * options_.hidden_size;
        fingerprint = fingerprint_of(fingerprint, p.weight_ih, rows * own.scans[scan].input_size);
        fingerprint = fingerprint_of(fingerprint, p.weight_hh, rows * options_.hidden_size);
        if (p.bias_ih) fingerprint = fingerprint_of(fingerprint, p.bias_ih, rows);
        if (p.bias_hh) fingerprint = fingerprint_of(fingerprint, p.bias_hh, rows);
    }
    if (!call.saved && own.filled && own.fingerprint == fingerprint) return;
    own.filled = false;
    for (size_t scan = 0; scan < scans(); ++scan) own.scans[scan].pack(call.parameters[scan], false);
    own.fingerprint = fingerprint;
    own.filled = !call.saved;
}

void RecurrentFunction::run(const RecurrentCall& call, const std::vector<ScanWeights>& scans,
                            const RecurrentStateOut& end, Workspace& own) const {
    const Stack s = stack(call, scans);
    const bool save = call.saved || call.dropout > 0;  // dropout belongs to training, with or without a backward
    own.tape.memory = call.saved;
    own.tape.row_groups = call.dropout_key;
    s.forward(call.input, call.start, call.y, end, own.tape, save);
}

void RecurrentFunction::forward(const RecurrentCall& call, const RecurrentStateOut& end) const {
    if (options_.weights == Weights::int8 && call.saved)
        refuse({"int8 weights are for running a layer: train with weights \"f32\" or \"bf16\""});
    Pool<Workspace>::Loan own(workspaces_);
    pack(call, *own);
    run(call, own->scans, end, *own);
}

void RecurrentFunction::forward(const RecurrentCall& call, const std::vector<ScanWeights>& weights,
                                const RecurrentStateOut& end) const {
    Pool<Workspace>::Loan own(workspaces_);
    run(call, weights, end, *own);
}

void RecurrentFunction::backward(const RecurrentCall& call, const RecurrentCallGradients& g) const {
    Pool<Workspace>::Loan own(workspaces_);
    if (own->scans.empty()) own->scans = unpacked();
    borrow(call, *own);
    for (size_t scan = 0; scan < scans(); ++scan)
        own->scans[scan].pack_backward(call.parameters[scan], scan >= directions() || g.arrays.dx);
    RecurrentTape& tape = own->tape;
    tape.memory = call.saved;
    tape.stays = !g.use_up;
    tape.row_groups = call.dropout_key;
    tape.gradients = g.parameters;
    const Stack s = stack(call, own->scans);
    s.resume(call.input, call.start, call.y, tape);
    s.backward(tape, g.arrays);
}

}  // namespace rnnfast::core
