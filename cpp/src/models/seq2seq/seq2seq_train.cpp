// The loss of whole pairs of sentences, and its gradients.
#include <algorithm>
#include <stdexcept>

#include "models/seq2seq/seq2seq.h"
#include "models/seq2seq/seq2seq_parts.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "runtime/check.h"
#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

constexpr size_t most_products = 16u << 20;  // floats that are kept from a choice to the loss, 64 MB

}  // namespace

void Seq2Seq::check_batch(const PairBatch& b) const {
    check_source(b.source, b.source_lengths, b.source_steps, b.rows);
    if (b.target_steps == 0) refuse({"the target is empty: expected at least one step"});
    const size_t count = b.target_steps * b.rows;
    if (target_embedding_) check_ids(b.inputs, count, {options_.target_vocabulary, "input token id", of_the_model});
    check_targets(b.targets, count, {options_.target_vocabulary, "target token id", of_the_model});
}

// Rows run to their last target that counts; steps that no row reaches are left out, of source and target.
void Seq2Seq::lay_out(const PairBatch& b, Pass& p) const {
    p.rows = b.rows;
    p.lengths.assign(b.rows, 1);
    for (size_t i = 0; i < b.target_steps * b.rows; ++i)
        if (b.targets[i] >= 0) p.lengths[i % b.rows] = static_cast<int64_t>(i / b.rows + 1);
    p.steps = static_cast<size_t>(*std::max_element(p.lengths.begin(), p.lengths.end()));
    p.places.clear();
    p.targets.clear();
    p.first.assign(1, 0);
    for (size_t t = 0; t < p.steps; ++t) {
        for (size_t n = 0; n < b.rows; ++n) {
            if (static_cast<size_t>(p.lengths[n]) <= t) continue;
            p.places.push_back(t * b.rows + n);
            p.targets.push_back(b.targets[p.places.back()]);
        }
        p.first.push_back(p.places.size());
    }
    p.readouts.resize(p.groups.keys.size());
    for (GroupRows& group : p.readouts) group = {{{0}}, {}};
    for (size_t t = 0; t < p.steps && p.groups; ++t) {
        for (size_t i = p.first[t]; i < p.first[t + 1]; ++i)
            p.readouts[p.places[i] % b.rows * p.groups.count() / b.rows].list.push_back(i);
        for (GroupRows& group : p.readouts) group.steps.offset.push_back(group.list.size());
    }
    p.inputs.assign(b.inputs, b.inputs + p.steps * b.rows);
    p.encoded.steps = static_cast<size_t>(*std::max_element(b.source_lengths, b.source_lengths + b.rows));
    p.encoded.rows = b.rows;
}

std::vector<bool> Seq2Seq::reads_own(size_t t, float teacher_forcing, const Pass& p) const {
    const auto tossed = [&](uint64_t key) {
        return random_uniform(random_key(key, seq2seq::coins), t) >= static_cast<double>(teacher_forcing);
    };
    std::vector<bool> of_groups;
    for (const uint64_t key : p.groups.keys) of_groups.push_back(tossed(key));
    if (!p.groups) of_groups.push_back(tossed(p.groups.key));
    return of_groups;
}

// The steps that read the model's own choices, first to last, and memory for what their choosing leaves.
std::vector<size_t> Seq2Seq::own_steps(float teacher_forcing, Pass& p) const {
    std::vector<size_t> steps;
    size_t rows = 0;
    for (size_t t = 1; t < p.steps; ++t) {
        const std::vector<bool> own = reads_own(t, teacher_forcing, p);
        if (std::find(own.begin(), own.end(), true) == own.end()) continue;
        steps.push_back(t);
        rows += p.first[t] - p.first[t - 1];
    }
    p.known.assign(p.places.size(), nullptr);
    p.kept = 0;
    if (rows)
        p.products.reserve((std::min(rows, most_products / options_.target_vocabulary) + p.rows) *
                           options_.target_vocabulary);
    return steps;
}

// Step t reads the most probable tokens of the step before it, which has run.
void Seq2Seq::choose_inputs(size_t t, const std::vector<bool>& of_groups, Pass& p) {
    const size_t first = p.first[t - 1], rows = p.first[t] - first, vocabulary = options_.target_vocabulary;
    float* products = p.products.data() + p.kept * vocabulary;
    p.chosen.resize(rows);
    output_.argmax(p.readout.data() + first * readout_size(), rows, {}, p.chosen.data(), p.memory.argmax, products);
    for (size_t i = 0; i < rows; ++i)  // logits that are not finite make the loss so
        if (const size_t place = p.places[first + i]; of_groups[place % p.rows * of_groups.size() / p.rows])
            p.inputs[place + p.rows] = std::max(0, p.chosen[i]);
    if ((p.kept + rows) * vocabulary > most_products) return;  // the loss computes them again
    for (size_t i = 0; i < rows; ++i) p.known[first + i] = products + i * vocabulary;
    p.kept += rows;
}

// z of the steps in `part`, of which those before have run.
void Seq2Seq::run_decoder(Range part, bool train, Pass& p) const {
    const size_t tokens = p.steps * p.rows, width = options_.embedding_size;
    RecurrentInput input;
    input.steps = p.steps;
    input.rows = p.rows;
    input.lengths = p.lengths.data();
    if (part.size() < p.steps) input.part = part;
    if (target_embedding_) {
        const size_t first = part.begin * p.rows, count = part.size() * p.rows;
        p.embedded.reserve(tokens * width);
        embedding_forward(target_embedding_->value.data(), width, p.inputs.data() + first, count,
                          p.embedded.data() + first * width);
        if (train) drop_embedded(p.embedded, p.rows, part, p.groups.of_part(seq2seq::target_embedding));
        input.x = p.embedded.data();
    }
    run_recurrence(input, train, p);
    gather_readout({p.first[part.begin], p.first[part.end]}, p);
    if (train) drop_readout(p.readout, part, p);
}

// What the output reads at the steps of `part`, or its gradient.
void Seq2Seq::drop_readout(Buffer& z, Range part, const Pass& p) const {
    const size_t size = readout_size();
    const Dropout d{static_cast<float>(options_.output_dropout)};
    const RowGroups keys = p.groups.of_part(seq2seq::before_output);
    if (d.p == 0) return;
    if (keys) return dropout(z.data(), z.data(), size, p.readouts, part, d, keys);
    dropout(z.data(), z.data(), Range{p.first[part.begin] * size, p.first[part.end] * size}, d.p, keys.key);
}

void Seq2Seq::run_recurrence(const RecurrentInput& input, bool train, Pass& p) const {
    const RowGroups keys = p.groups.of_part(seq2seq::decoder_layers);
    const size_t tokens = p.steps * p.rows;
    p.hidden.reserve(tokens * options_.hidden_size);
    const RecurrentState start{p.encoded.h.data(), p.encoded.c.data()};
    if (additive()) {
        if (options_.readout == Readout::all) p.contexts.reserve(tokens * context_size());
        attending_forward(decoder_, *attention_, attended(p.encoded),
                          {p.steps, input.x, input.lengths, start, input.part,
                           train ? static_cast<float>(options_.dropout) : 0.0f, keys},
                          {p.hidden.data(), options_.readout == Readout::all ? p.contexts.data() : nullptr},
                          p.attending);
        return;
    }
    RecurrentInput read = input;
    if (options_.reads_context()) read.fixed = p.encoded.context.data();
    read.fixed_part = p.encoded.fixed.data();
    Buffer& states = attention_ ? p.states : p.hidden;
    states.reserve(tokens * options_.hidden_size);
    decoder_.forward(read, start, states.data(), {}, p.memory.decoder, train, keys);
    p.attention.groups = keys;
    if (attention_)
        attention_->forward(attended(p.encoded), states.data(), p.steps, steps_asked(input.part, p.steps),
                            p.hidden.data(), p.attention);
}

// The context that the output reads of the target at t * N + n, or nullptr.
const float* Seq2Seq::context_at(const Pass& p, size_t place) const {
    if (options_.readout == Readout::state || !has_context()) return nullptr;
    if (additive()) return p.contexts.data() + place * context_size();
    if (attention_) return p.attention.joined.data() + place * (context_size() + options_.hidden_size);
    return p.encoded.context.data() + place % p.rows * context_size();
}

// z of some places: [places, Z]
void Seq2Seq::gather_readout(Range places, Pass& p) const {
    const size_t hidden = options_.hidden_size, width = options_.embedding_size, size = readout_size();
    p.readout.reserve(p.places.size() * size);
    for (size_t i = places.begin; i < places.end; ++i) {
        const size_t place = p.places[i];
        readout({p.hidden.data() + place * hidden, context_at(p, place),
                 options_.readout == Readout::all && target_embedding_ ? p.embedded.data() + place * width : nullptr},
                p.readout.data() + i * size);
    }
}

void Seq2Seq::loss(const PairBatch& b, double* nll, bool train, float teacher_forcing, const RowGroups& groups) {
    if (train && options_.weights == Weights::int8)
        refuse({"int8 weights are for inference only: train with weights \"f32\" or \"bf16\""});
    check_batch(b);
    if (!train) {
        Pool<Pass>::Loan pass(evaluation_);
        return run_loss(b, nll, false, 1.0f, *pass);
    }
    const ForkLock lock(training_mutex_, [&] { renew_training(); });
    pending_ = false;
    if (groups) check_groups(groups, b.rows);
    training_.groups = groups;
    run_loss(b, nll, true, teacher_forcing, training_);
    pending_ = true;
}

void Seq2Seq::run_loss(const PairBatch& b, double* nll, bool train, float teacher_forcing, Pass& p) {
    lay_out(b, p);
    run_encoder(b.source, b.source_lengths, p.encoded, p.memory, train, p.groups);
    size_t begin = 0;
    for (const size_t t : own_steps(train && target_embedding_ ? teacher_forcing : 1.0f, p)) {
        run_decoder({begin, t}, train, p);
        choose_inputs(t, reads_own(t, teacher_forcing, p), p);
        begin = t;
    }
    run_decoder({begin, p.steps}, train, p);
    const size_t count = p.places.size();
    p.nll.resize(count);
    if (train) dreadout_.reserve(count * readout_size());
    if (train && p.groups)
        output_.loss({p.readout.data(), p.targets.data(), p.readouts, p.groups.sums, p.known.data()}, p.nll.data(),
                     dreadout_.data(), p.output);
    else
        output_.loss(p.readout.data(), count, p.targets.data(), p.nll.data(), train ? dreadout_.data() : nullptr,
                     p.output, p.known.data());
    std::fill_n(nll, b.target_steps * b.rows, 0.0);
    for (size_t i = 0; i < count; ++i) nll[p.places[i]] = p.nll[i];
}

void Seq2Seq::renew_training() {
    pending_ = false;
    replace_abandoned(training_);
    for (Buffer* b : {&dreadout_, &dhidden_, &dstates_, &dembedded_, &dcontext_, &dcontexts_, &dh_, &dc_, &dlast_h_,
                      &dlast_c_, &dmemory_, &dbridged_, &dbridge_context_})
        replace_abandoned(*b);
}

void Seq2Seq::backward() {
    const ForkLock lock(training_mutex_, [&] { renew_training(); });
    if (!pending_) refuse({"backward: no loss to differentiate; call loss first, once for every backward"});
    encoder_.check_weights(training_.memory.encoder);
    check_memory_of_groups(parameters(), training_.groups);
    const GradientLock gradients(gradients_mutex_);
    pending_ = false;
    output_.add_gradients(training_.output);
    backward_decoder(training_);
    backward_context(training_);
    backward_encoder(training_);
}

// Leaves dcontext_ and the gradients dh_, dc_ of the initial state; adds those of the decoder's parameters.
void Seq2Seq::backward_decoder(Pass& p) {
    const size_t hidden = options_.hidden_size, width = options_.embedding_size, tokens = p.steps * p.rows;
    const size_t size = readout_size(), count = p.places.size();
    drop_readout(dreadout_, {0, p.steps}, p);
    dhidden_.reserve(tokens * hidden);
    std::fill_n(dhidden_.data(), tokens * hidden, 0.0f);
    for (size_t i = 0; i < count; ++i)
        std::copy_n(dreadout_.data() + i * size, hidden, dhidden_.data() + p.places[i] * hidden);
    const size_t states = state_size(p.rows);
    dh_.reserve(states);
    if (cell().has_c) dc_.reserve(states);
    dcontext_.reserve(p.rows * context_size());
    std::fill_n(dcontext_.data(), p.rows * context_size(), 0.0f);
    if (has_memory_gradient()) {
        dmemory_.reserve(p.encoded.steps * p.rows * context_size());
        std::fill_n(dmemory_.data(), p.encoded.steps * p.rows * context_size(), 0.0f);
    }
    if (target_embedding_) dembedded_.reserve(tokens * width);
    backward_recurrence(p, target_embedding_ ? dembedded_.data() : nullptr);
    if (options_.readout == Readout::all) scatter_readout_gradient(p);
    if (!target_embedding_) return;
    drop_embedded(dembedded_, p.rows, {0, p.steps}, p.groups.of_part(seq2seq::target_embedding));
    backward_embedding(p.inputs.data(), p.steps, p, *target_embedding_);
}

// From dhidden_ to the decoder's inputs: dembedded, dcontext_ and dmemory_, and to its initial state.
void Seq2Seq::backward_recurrence(Pass& p, float* dembedded) {
    const size_t tokens = p.steps * p.rows, width = context_size(), hidden = options_.hidden_size;
    const float *dcontexts = nullptr, *dstates = dhidden_.data();
    const RecurrentStateOut dstart{dh_.data(), dc_.data()};
    if (attention_ && options_.readout == Readout::all) {  // what the output read of each step's context
        dcontexts_.reserve(tokens * width);
        std::fill_n(dcontexts_.data(), tokens * width, 0.0f);
        for (size_t i = 0; i < p.places.size(); ++i)
            std::copy_n(dreadout_.data() + i * readout_size() + hidden, width, dcontexts_.data() + p.places[i] * width);
        dcontexts = dcontexts_.data();
    }
    if (additive())
        return attending_backward(decoder_, *attention_, attended(p.encoded), p.attending,
                                  {dstates, dcontexts, dembedded, dstart, dmemory_.data()});
    if (attention_) {
        dstates_.reserve(tokens * hidden);
        attention_->backward(attended(p.encoded), p.states.data(), dhidden_.data(), dcontexts, p.attention,
                             dstates_.data(), dmemory_.data());
        dstates = dstates_.data();
    }
    decoder_.backward(p.memory.decoder, dstates, {}, dembedded, dstart,
                      options_.reads_context() ? dcontext_.data() : nullptr);
}

// What the output read beside the state; backward_recurrence saw to the contexts of attention
void Seq2Seq::scatter_readout_gradient(const Pass& p) {
    const size_t width = options_.embedding_size;
    for (size_t i = 0; i < p.places.size(); ++i) {
        const size_t place = p.places[i], row = place % p.rows;
        const float* from = dreadout_.data() + i * readout_size() + options_.hidden_size;
        if (has_context() && !attention_) kernels().add(context_size(), from, dcontext_.data() + row * context_size());
        if (has_context()) from += context_size();
        if (target_embedding_) kernels().add(width, from, dembedded_.data() + place * width);
    }
}

// From the decoder's initial state and the context to the encoder's last states (dlast_h_, dlast_c_) and dmemory_.
void Seq2Seq::backward_context(Pass& p) {
    const size_t hidden = options_.hidden_size, layers = options_.num_layers, rows = p.rows, width = context_size();
    const size_t scans = encoder_.scans(), directions = encoder_.directions(), states = scans * rows * hidden;
    dlast_h_.reserve(states);
    std::fill_n(dlast_h_.data(), states, 0.0f);
    if (cell().has_c) dlast_c_.reserve(states);
    if (cell().has_c) std::fill_n(dlast_c_.data(), states, 0.0f);
    const auto add_to_learned = [&](Parameter* learned, const Buffer& gradient) {
        if (!learned) return;
        sum_groups(kernels(), {learned}, p.groups, p.group_gradients, [&](size_t g) {
            const Range own = split(rows, p.groups.count(), g);
            for (size_t i = 0; i < layers * rows; ++i)
                if (i % rows >= own.begin && i % rows < own.end)
                    kernels().add(hidden, gradient.data() + i * hidden, learned->grad.data() + i / rows * hidden);
        });
    };
    add_to_learned(initial_h_, dh_);
    add_to_learned(initial_c_, dc_);
    if (hands_over()) {
        std::copy_n(dh_.data(), states, dlast_h_.data());
        if (cell().has_c) std::copy_n(dc_.data(), states, dlast_c_.data());
    }
    if (bridge_weight_) backward_bridge(p);

    if (options_.context == Summary::last) {
        for (size_t i = 0; i < directions * rows; ++i)
            kernels().add(hidden, dcontext_.data() + i % rows * width + i / rows * hidden,
                          dlast_h_.data() + ((scans - directions) * rows + i) * hidden);
        return;
    }
    for (size_t n = 0; n < rows; ++n) {
        const float* from = dcontext_.data() + n * width;
        const size_t length = p.encoded.lengths[n];
        const auto at = [&](size_t t) { return (t * rows + n) * width; };
        for (size_t j = 0; j < width; ++j) {
            if (options_.context == Summary::mean) {
                for (size_t t = 0; t < length; ++t) dmemory_.data()[at(t) + j] += from[j] / static_cast<float>(length);
                continue;
            }
            size_t t = 0;  // the first state that is the largest
            while (p.encoded.memory.data()[at(t) + j] != p.encoded.context.data()[n * width + j] && t + 1 < length) ++t;
            dmemory_.data()[at(t) + j] += from[j];
        }
    }
}

void Seq2Seq::backward_bridge(Pass& p) {
    const size_t hidden = options_.hidden_size, layers = options_.num_layers, rows = p.rows, width = layers * hidden;
    dbridged_.reserve(rows * width);
    dbridge_context_.reserve(rows * context_size());
    tanh_gradient_(kernels(), rows * width, p.encoded.h.data(), dh_.data());
    for (size_t i = 0; i < layers * rows; ++i)  // [L, N, H] -> [N, L * H]
        std::copy_n(dh_.data() + i * hidden, hidden, dbridged_.data() + i % rows * width + i / rows * hidden);
    LinearGradients g;
    g.x = p.encoded.context.data();
    g.dy = dbridged_.data();
    g.weight = bridge_weight_->value.data();
    g.rows = rows;
    g.inputs = context_size();
    g.outputs = width;
    g.dx = dbridge_context_.data();
    linear_backward(kernels(), g, *bridge_weight_, bridge_bias_, p.groups, even_groups(1, rows, p.groups.keys.size()),
                    p.group_gradients);
    kernels().add(rows * context_size(), dbridge_context_.data(), dcontext_.data());
}

void Seq2Seq::backward_encoder(Pass& p) {
    const size_t tokens = p.encoded.steps * p.rows, width = options_.embedding_size;
    dembedded_.reserve(tokens * width);
    encoder_.backward(p.memory.encoder, has_memory_gradient() ? dmemory_.data() : nullptr,
                      {dlast_h_.data(), dlast_c_.data()}, dembedded_.data(), {});
    drop_embedded(dembedded_, p.rows, {0, p.encoded.steps}, p.groups.of_part(seq2seq::source_embedding));
    backward_embedding(p.memory.ids.data(), p.encoded.steps, p, *source_embedding_);
}

// From dembedded_ to the table that these ids were looked up in.
void Seq2Seq::backward_embedding(const int32_t* ids, size_t steps, const Pass& p, Parameter& table) {
    const size_t width = options_.embedding_size;
    if (!p.groups) return embedding_backward(dembedded_.data(), width, ids, steps * p.rows, table.grad.data());
    embedding_backward(dembedded_.data(), width, {ids, {steps, p.rows, p.groups.count()}, p.groups.sums, table.size()},
                       table.grad.data());
}

}  // namespace rnnfast::core
