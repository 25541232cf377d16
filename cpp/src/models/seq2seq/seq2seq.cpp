#include "models/seq2seq/seq2seq.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

[[noreturn]] void fail(const std::string& text) { refuse({text}); }

Seq2SeqOptions checked(Seq2SeqOptions o) {
    if (o.source_vocabulary == 0) fail("the source vocabulary is empty: expected at least one token");
    if (o.target_vocabulary == 0) fail("the target vocabulary is empty: expected at least one token");
    if (o.embedding_size == 0) fail("embedding_size is 0: expected at least 1");
    check_window("encoder_window", o.encoder_window.value_or(1), o.cell);
    if (!(o.output_dropout >= 0 && o.output_dropout < 1))
        fail("output_dropout is " + std::to_string(o.output_dropout) + ": expected at least 0 and less than 1");
    if (o.attention == AttentionKind::additive && !o.reads_context())
        fail(
            "attention is 'additive', whose context is what each step reads, and the decoder does not read the "
            "context: "
            "let it, as decoder 'd2l' does, or use 'dot' or 'general', which come after the recurrence");
    if (o.initial_state != InitialState::context && !o.reads_context() && o.attention == AttentionKind::none)
        fail("the decoder has initial_state '" + name_of(o.initial_state) +
             "' and does not read the context, so it would never see the source: make initial_state 'context', or let "
             "it "
             "read the context");
    return o;
}

RecurrentOptions encoder_options(const Seq2SeqOptions& o) {
    RecurrentOptions r;
    r.cell = o.cell;
    r.input_size = o.embedding_size;
    r.hidden_size = o.hidden_size;
    r.num_layers = o.num_layers;
    r.bidirectional = o.bidirectional;
    r.dropout = static_cast<float>(o.dropout);
    r.weights = o.weights;
    r.window = o.encoder_window.value_or(1);
    return r;
}

RecurrentOptions decoder_options(const Seq2SeqOptions& o) {
    RecurrentOptions r = encoder_options(o);
    r.bidirectional = false;
    r.window = 1;
    r.input_size = o.reads_previous() ? o.embedding_size : 0;
    const size_t context = o.reads_context() ? (o.bidirectional ? 2 : 1) * o.hidden_size : 0;
    const bool at_each_step = o.attention == AttentionKind::additive;
    (at_each_step ? r.input_size : r.fixed_size) += context;
    return r;
}

enum SeedOf : uint64_t { encoder_rnn = 1, decoder_rnn, first_parameter, attention };

}  // namespace

Seq2Seq::Seq2Seq(Seq2SeqOptions options, std::optional<uint64_t> seed, const Kernels& kernels)
    : options_(checked(std::move(options))),
      encoder_(encoder_options(options_), part_seed(seed, encoder_rnn), kernels, "encoder.rnn."),
      decoder_(decoder_options(options_), part_seed(seed, decoder_rnn), kernels, "decoder.rnn.") {
    if (options_.attention != AttentionKind::none)
        attention_ = std::make_unique<CrossAttention>(
            CrossAttentionOptions{options_.attention, options_.hidden_size, context_size(), options_.weights},
            part_seed(seed, attention), kernels);
    add_parameters(seed);
    output_ = OutputLayer(kernels, options_.weights, output_weight_, output_bias_);
    if (bridge_weight_)
        bridge_ = Packed<PackedLinear>(
            [&kernels, weights = options_.weights, inputs = context_size(), outputs = bridge_weight_->shape[0]] {
                return PackedLinear(kernels, weights, inputs, outputs);
            });
}

void Seq2Seq::add_parameters(std::optional<uint64_t> seed) {
    const size_t embedding = options_.embedding_size, hidden = options_.hidden_size, layers = options_.num_layers;
    const auto add = [&](const char* name, std::vector<size_t> shape) {
        own_.push_back(make_parameter(name, std::move(shape), seed.has_value()));
        return &own_.back();
    };
    const auto normal = [&](Parameter* p, uint64_t key) {
        normal_(*p, random_key(seed.value_or(0), first_parameter, key));
        return p;
    };
    const auto uniform = [&](Parameter* p, uint64_t key, size_t inputs) {
        uniform_(*p, 1.0 / std::sqrt(static_cast<double>(inputs)), random_key(seed.value_or(0), first_parameter, key));
        return p;
    };
    source_embedding_ = normal(add("encoder.embedding.weight", {options_.source_vocabulary, embedding}), 1);
    if (options_.reads_previous())
        target_embedding_ = normal(add("decoder.embedding.weight", {options_.target_vocabulary, embedding}), 2);
    if (options_.initial_state == InitialState::learned) {
        initial_h_ = add("decoder.initial_h", {layers, hidden});  // zeros at first
        if (cell().has_c) initial_c_ = add("decoder.initial_c", {layers, hidden});
    }
    if (options_.initial_state == InitialState::context && !hands_over()) {
        bridge_weight_ = uniform(add("bridge.weight", {layers * hidden, context_size()}), 3, context_size());
        bridge_bias_ = uniform(add("bridge.bias", {layers * hidden}), 4, context_size());
    }
    const size_t read = readout_size();
    output_weight_ = uniform(add("output.weight", {options_.target_vocabulary, read}), 5, read);
    output_bias_ = uniform(add("output.bias", {options_.target_vocabulary}), 6, read);
}

bool Seq2Seq::hands_over() const {
    return options_.initial_state == InitialState::context && options_.context == Summary::last &&
           !options_.bidirectional;
}

size_t Seq2Seq::readout_size() const {
    if (options_.readout == Readout::state) return options_.hidden_size;
    return options_.hidden_size + (has_context() ? context_size() : 0) +
           (options_.reads_previous() ? options_.embedding_size : 0);
}

Parameters Seq2Seq::parameters() {
    Parameters all{source_embedding_};
    const auto add = [&](Parameter* p) {
        if (p) all.push_back(p);
    };
    for (Parameter& p : encoder_.parameters) all.push_back(&p);
    add(bridge_weight_);
    add(bridge_bias_);
    add(initial_h_);
    add(initial_c_);
    add(target_embedding_);
    for (Parameter& p : decoder_.parameters) all.push_back(&p);
    if (attention_)
        for (Parameter* p : attention_->parameters()) all.push_back(p);
    add(output_weight_);
    add(output_bias_);
    return all;
}

void Seq2Seq::weights_changed() {
    encoder_.weights_changed();
    decoder_.weights_changed();
    output_.weights_changed();
    if (attention_) attention_->weights_changed();
    bridge_.weights_changed();
}

void Seq2Seq::load(const FileValues& values) {
    encoder_.pack(values, false);
    decoder_.pack(values, false);
    output_.pack(values, true);
    if (attention_) attention_->load(values);
    if (bridge_weight_) {
        Buffer weight, bias;
        bridge_.get([&](PackedLinear& p) { p.pack(values(*bridge_weight_, weight), values(*bridge_bias_, bias)); });
    }
    for (Parameter* read : {source_embedding_, target_embedding_, initial_h_, initial_c_})
        if (read) copy_values(*read, values);
}

}  // namespace rnnfast::core
