// Encoding, and one step of decoding: what running a translator needs, and training's first half.
#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "models/seq2seq/seq2seq.h"
#include "models/seq2seq/seq2seq_parts.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "runtime/check.h"
#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

void Seq2Seq::check_source(const int32_t* source, const int64_t* lengths, size_t steps, size_t rows) const {
    if (steps == 0 || rows == 0) refuse({"the source is empty: expected at least one step and row"});
    check_lengths(lengths, rows, {1, steps, "source_lengths", "the source's steps"});
    for (size_t n = 0; n < rows; ++n)
        for (size_t t = 0; t < static_cast<size_t>(lengths[n]); ++t)
            check_id(source[t * rows + n], {options_.source_vocabulary, "source token id", of_the_model}, t * rows + n);
}

void Seq2Seq::encode(const int32_t* source, const int64_t* lengths, size_t steps, size_t rows, EncodedSource& encoded,
                     Memory& memory) const {
    check_source(source, lengths, steps, rows);
    encoded.steps = steps;
    encoded.rows = rows;
    encoded.model = this;
    run_encoder(source, lengths, encoded, memory, false, 0);
}

void Seq2Seq::drop_embedded(Buffer& x, size_t rows, Range part, const RowGroups& groups) const {
    const size_t width = options_.embedding_size, step = rows * width;
    const Dropout d{static_cast<float>(options_.dropout)};
    if (d.p == 0) return;
    if (groups) return dropout(x.data(), x.data(), width, even_groups(part.end, rows, groups.count()), part, d, groups);
    dropout(x.data(), x.data(), Range{part.begin * step, part.end * step}, d.p, groups.key);
}

void Seq2Seq::run_encoder(const int32_t* source, const int64_t* lengths, EncodedSource& e, Memory& m, bool train,
                          const RowGroups& groups) const {
    const size_t tokens = e.steps * e.rows, width = options_.embedding_size;
    e.lengths.assign(lengths, lengths + e.rows);
    m.ids.resize(tokens);
    for (size_t i = 0; i < tokens; ++i) m.ids[i] = i / e.rows < e.lengths[i % e.rows] ? source[i] : 0;
    m.embedded.reserve(tokens * width);
    embedding_forward(source_embedding_->value.data(), width, m.ids.data(), tokens, m.embedded.data());
    if (train) drop_embedded(m.embedded, e.rows, {0, e.steps}, groups.of_part(seq2seq::source_embedding));
    RecurrentInput input;
    input.steps = e.steps;
    input.rows = e.rows;
    input.x = m.embedded.data();
    input.lengths = lengths;
    const size_t states = encoder_.scans() * e.rows * options_.hidden_size;
    m.last_h.reserve(states);
    if (cell().has_c) m.last_c.reserve(states);
    e.memory.reserve(tokens * context_size());
    encoder_.forward(input, {}, e.memory.data(), {m.last_h.data(), m.last_c.data()}, m.encoder, train,
                     groups.of_part(seq2seq::encoder_layers));
    summarise(e, m);
    make_initial_state(e, m);
    if (const size_t fixed = decoder_.fixed_part_size()) {
        e.fixed.reserve(e.rows * fixed);
        decoder_.fixed_part(e.context.data(), e.rows, e.fixed.data(), m.scratch);
    }
    if (!attention_) return;
    e.keys.reserve(attention_->keys_size(e.steps, e.rows));
    attention_->keys(e.memory.data(), e.steps, e.rows, e.keys.data(), m.scratch);
}

AttentionMemory Seq2Seq::attended(const EncodedSource& e) const {
    return {e.steps, e.rows, e.memory.data(), e.keys.data(), e.lengths.data()};
}

void Seq2Seq::summarise(EncodedSource& e, const Memory& m) const {
    const size_t hidden = options_.hidden_size, width = context_size(), directions = encoder_.directions();
    e.context.reserve(e.rows * width);
    for (size_t n = 0; n < e.rows; ++n) {
        float* out = e.context.data() + n * width;
        const auto state = [&](size_t t) { return e.memory.data() + (t * e.rows + n) * width; };
        if (options_.context == Summary::last) {  // of the top layer, forward beside backward
            for (size_t d = 0; d < directions; ++d) {
                const size_t scan = encoder_.scans() - directions + d;
                std::copy_n(m.last_h.data() + (scan * e.rows + n) * hidden, hidden, out + d * hidden);
            }
            continue;
        }
        std::copy_n(state(0), width, out);
        const bool mean = options_.context == Summary::mean;
        for (size_t t = 1; t < e.lengths[n]; ++t)
            for (size_t j = 0; j < width; ++j) out[j] = mean ? out[j] + state(t)[j] : std::max(out[j], state(t)[j]);
        for (size_t j = 0; mean && j < width; ++j) out[j] /= static_cast<float>(e.lengths[n]);
    }
}

void Seq2Seq::make_initial_state(EncodedSource& e, Memory& m) const {
    const size_t hidden = options_.hidden_size, layers = options_.num_layers, size = state_size(e.rows);
    const bool has_c = cell().has_c;
    e.h.reserve(size);
    if (has_c) e.c.reserve(size);
    if (hands_over()) {
        std::copy_n(m.last_h.data(), size, e.h.data());
        if (has_c) std::copy_n(m.last_c.data(), size, e.c.data());
        return;
    }
    std::fill_n(e.h.data(), size, 0.0f);
    if (has_c) std::fill_n(e.c.data(), size, 0.0f);
    const auto broadcast = [&](const Parameter* p, Buffer& state) {
        for (size_t i = 0; p && i < layers * e.rows; ++i)
            std::copy_n(p->value.data() + i / e.rows * hidden, hidden, state.data() + i * hidden);
    };
    broadcast(initial_h_, e.h);
    broadcast(initial_c_, e.c);
    if (!bridge_weight_) return;
    const size_t width = layers * hidden;
    m.bridged.reserve(e.rows * width);
    const PackedLinear& bridge =
        bridge_.get([&](PackedLinear& p) { p.pack(bridge_weight_->value.data(), bridge_bias_->value.data()); });
    bridge.forward(e.context.data(), context_size(), e.rows, m.bridged.data(), m.scratch);
    tanh_(kernels(), e.rows * width, m.bridged.data());
    for (size_t i = 0; i < layers * e.rows; ++i)  // [N, L * H] -> [L, N, H]
        std::copy_n(m.bridged.data() + i % e.rows * width + i / e.rows * hidden, hidden, e.h.data() + i * hidden);
}

DecoderState Seq2Seq::initial_state(const EncodedSource& encoded) const {
    DecoderState state;
    state.rows = encoded.rows;
    state.model = this;
    const auto copy = [&](const Buffer& from) {
        Buffer to(state_size(encoded.rows), Buffer::Uninitialised{});
        std::copy_n(from.data(), to.size(), to.data());
        return to;
    };
    state.h = copy(encoded.h);
    if (cell().has_c) state.c = copy(encoded.c);
    state.source.resize(encoded.rows);
    std::iota(state.source.begin(), state.source.end(), 0);
    return state;
}

void Seq2Seq::readout(const ReadoutParts& from, float* z) const {
    const auto put = [&](const float* part, size_t size) { z = part ? std::copy_n(part, size, z) : z; };
    put(from.hidden, options_.hidden_size);
    put(from.context, context_size());
    put(from.embedded, options_.embedding_size);
}

const float* Seq2Seq::advance(const EncodedSource& encoded, const int32_t* previous, DecoderState& state,
                              float* attention, Memory& m) const {
    if (attention && !attention_) refuse({"the model has no attention, so it has no attention weights"});
    const size_t rows = state.rows, hidden = options_.hidden_size, width = options_.embedding_size;
    if (attention_ && !attention) {
        m.weights.reserve(rows * encoded.steps);
        attention = m.weights.data();
    }
    const float* embedded = nullptr;
    if (target_embedding_) {
        check_ids(previous, rows, {options_.target_vocabulary, "previous token id", of_the_model});
        m.embedded.reserve(rows * width);
        embedding_forward(target_embedding_->value.data(), width, previous, rows, m.embedded.data());
        embedded = m.embedded.data();
    }
    const StepInput in = step_input(encoded, embedded, state, attention, m);
    m.hidden.reserve(rows * hidden);
    // The forward copies the start before it writes the end, so both may be the same memory.
    decoder_.forward(in.input, {state.h.data(), state.c.data()}, m.hidden.data(), {state.h.data(), state.c.data()},
                     m.decoder, false);
    const float *read = m.hidden.data(), *context = in.context;
    size_t context_stride = in.context_stride;
    if (attention_ && !additive()) {
        context_stride = context_size() + hidden;
        m.joined.reserve(rows * context_stride);
        m.combined.reserve(rows * hidden);
        attention_->attend(attended(encoded), {read, rows, state.source.data()},
                           {attention, m.joined.data(), context_stride}, m.query, m.scratch);
        attention_->combine(read, rows, m.joined.data(), m.combined.data(), m.scratch);
        read = m.combined.data();
        context = m.joined.data();
    }
    if (options_.readout == Readout::state) return read;
    m.readout.reserve(rows * readout_size());
    for (size_t r = 0; r < rows; ++r)
        readout({read + r * hidden, context ? context + r * context_stride : nullptr,
                 embedded ? embedded + r * width : nullptr},
                m.readout.data() + r * readout_size());
    return m.readout.data();
}

// What the decoder reads at one step: with additive attention its rows are [embedded ; context].
Seq2Seq::StepInput Seq2Seq::step_input(const EncodedSource& encoded, const float* embedded, const DecoderState& state,
                                       float* attention, Memory& m) const {
    const size_t rows = state.rows, width = target_embedding_ ? options_.embedding_size : 0;
    StepInput in;
    in.input.steps = 1;
    in.input.rows = rows;
    in.input.x = embedded;
    if (!options_.reads_context()) return in;
    in.context_stride = additive() ? width + context_size() : context_size();
    m.fixed.reserve(rows * in.context_stride);
    if (additive()) {
        in.context = m.fixed.data() + width;
        in.input.x = m.fixed.data();
        for (size_t r = 0; r < rows; ++r)
            if (width) std::copy_n(embedded + r * width, width, m.fixed.data() + r * in.context_stride);
        const float* top = state.h.data() + (options_.num_layers - 1) * rows * options_.hidden_size;
        attention_->attend(attended(encoded), {top, rows, state.source.data()},
                           {attention, m.fixed.data() + width, in.context_stride}, m.query, m.scratch);
        return in;
    }
    in.input.fixed_part = encoded.fixed.data();
    in.input.fixed_row = state.source.data();
    in.context = in.input.fixed = m.fixed.data();
    for (size_t r = 0; r < rows; ++r)
        std::copy_n(encoded.context.data() + static_cast<size_t>(state.source[r]) * context_size(), context_size(),
                    m.fixed.data() + r * context_size());
    return in;
}

void Seq2Seq::step(const EncodedSource& encoded, const int32_t* previous, DecoderState& state, float* logits,
                   float* attention, Memory& m) const {
    const float* z = advance(encoded, previous, state, attention, m);
    output_.logits(z, state.rows, logits, m.scratch);
}

void Seq2Seq::step_argmax(const EncodedSource& encoded, const int32_t* previous, DecoderState& state,
                          const std::vector<int32_t>& never, int32_t* tokens, Memory& m) const {
    const float* z = advance(encoded, previous, state, nullptr, m);
    output_.argmax(z, state.rows, never, tokens, m.argmax);
}

}  // namespace rnnfast::core
