#include "models/seq2seq/translator_file.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>

#include "rnnfast/error.hpp"
#include "runtime/dispatch.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

constexpr std::string_view reserved[smallest_vocabulary] = {"<unk>", "<pad>", "<bos>", "<eos>"};

TokenTable vocabulary(const SafetensorsFile& file, const char* key, size_t size) {
    const auto text = file.metadata().find(key);
    if (text == file.metadata().end()) return {};
    TokenTable table(text->second);
    if (table.size() != size) refuse_file({key, " has ", table.size(), " tokens, its size is ", size});
    for (size_t id = 0; id < std::size(reserved); ++id)
        if (table.size() <= id || table.token(id) != reserved[id])
            refuse_file({key, " must begin with <unk>, <pad>, <bos>, <eos>"});
    return table;
}

// Before memory is taken for what a configuration claims, the file must hold so many numbers.
void check_sizes(const SafetensorsFile& file, const Seq2SeqOptions& o) {
    uint64_t held = 0;
    for (const auto& [name, tensor] : file.tensors()) held += tensor.size;
    // Each is below 2^31, so no product of two overflows.
    const uint64_t words = std::max(o.source_vocabulary, o.target_vocabulary), hidden = o.hidden_size;
    if (std::max({words * o.embedding_size, o.target_vocabulary * hidden, hidden * hidden}) > held ||
        o.num_layers > file.tensors().size())
        refuse_file({"it needs more weights than the file has"});
}

}  // namespace

TranslatorFile::TranslatorFile(SafetensorsFile opened) : file(std::move(opened)) {
    check_format(file, "seq2seq");
    file.check_finite();
    const std::string& config = metadata_of(file, "config", "has no configuration");
    try {
        options = read_options<Seq2SeqOptions>(parse_json(config));
        source = vocabulary(file, "source_vocabulary", options.source_vocabulary);
        target = vocabulary(file, "target_vocabulary", options.target_vocabulary);
        check_sizes(file, options);
    } catch (const std::exception& error) {
        refuse_file({file.name(), ": its configuration cannot be used: ", error.what()});
    }
}

namespace {

// Columns of a matrix when it is packed: whole blocks of units for those of a recurrent layer.
size_t packed_columns(const Parameter& p, const Seq2Seq& model) {
    const size_t hidden = model.options().hidden_size;
    const GateOrder order{p.shape[0] / hidden, hidden};
    return p.name.find(".rnn.") == std::string::npos ? p.shape[0] : order.columns();
}

// The model of a configuration, without values.
std::unique_ptr<Seq2Seq> empty_model(const TranslatorFile& f, Weights weights, const Kernels& kernels) {
    Seq2SeqOptions options = f.options;
    options.weights = weights;
    try {
        return std::make_unique<Seq2Seq>(options, std::nullopt, kernels);
    } catch (const std::invalid_argument& error) {
        refuse_file({f.file.name(), ": its configuration cannot be used: ", error.what()});
    }
}

void check(const TranslatorFile& f, Seq2Seq& model) {
    std::vector<ExpectedTensor> all;
    for (const Parameter* p : model.parameters()) {
        const bool packed =
            p->name.find("embedding.") == std::string::npos && p->name.find("initial_") == std::string::npos;
        all.push_back({p->name, p->shape, packed_columns(*p, model), packed ? Packing::panels : Packing::rows});
    }
    check_tensors(f.file, all, {"encoder.", "decoder.", "bridge.", "attention.", "output."}, model.options().weights);
}

}  // namespace

void TranslatorFile::check(Weights weights) const { core::check(*this, *empty_model(*this, weights, active())); }

std::unique_ptr<const Seq2Seq> translator_of(const TranslatorFile& f, Weights weights, const Kernels& kernels) {
    std::unique_ptr<Seq2Seq> model = empty_model(f, weights, kernels);
    check(f, *model);
    const FileValues values = [&](const Parameter& p, Buffer& buffer) {
        return tensor_values(f.file, p.name, p.shape, buffer);
    };
    model->load(values);
    return model;
}

}  // namespace rnnfast::core
