#include "models/estimator_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "ops/cell.h"
#include "rnnfast/error.hpp"
#include "runtime/sentence.h"

namespace rnnfast::core {

void Scaling::apply(const double* numbers, size_t steps, float* x) const {
    for (size_t i = 0; i < steps * size(); ++i) {
        const double scaled = (numbers[i] - mean[i % size()]) / scale[i % size()];
        x[i] = static_cast<float>(scaled);
        if (!std::isfinite(x[i]))
            refuse({"number ", i % size(), " of step ", i / size(), " is ", json_number(numbers[i]),
                    ": expected numbers near those of the training"});
    }
}

void Scaling::undo(const float* x, size_t steps, double* numbers) const {
    for (size_t i = 0; i < steps * size(); ++i)
        numbers[i] = static_cast<double>(x[i]) * scale[i % size()] + mean[i % size()];
}

namespace {

struct NetworkParams {  // what a network is made of
    std::string cell;
    size_t hidden_size = 0, num_layers = 0;
    bool bidirectional = false;
    template <class Self, class Visit>
    static void fields(Self& o, Visit&& visit) {
        visit(required("cell"), o.cell);
        visit(required("hidden_size"), o.hidden_size, Size{1});
        visit(required("num_layers"), o.num_layers, Size{1});
        visit(usual("bidirectional"), o.bidirectional);
    }
};

template <class Options>
Options options_in(const Json& json) {
    Options options;
    Options::fields(options, OptionsReader(json));
    return options;
}

const Json& member(const Json& json, const char* key) {
    const Json* found = json.find(key);
    if (!found) refuse({key, " is missing"});
    return *found;
}

std::vector<double> reals(const Json& json, const char* key) {
    const Json& list = member(json, key);
    std::vector<double> all = list.numbers;
    for (const Json& item : list.items) {
        const bool number = item.kind == Json::Kind::integer || item.kind == Json::Kind::number;
        all.push_back(number ? item.number : std::nan(""));
    }
    const auto bad = [](double number) { return !std::isfinite(number); };
    if (all.empty() || std::any_of(all.begin(), all.end(), bad)) refuse({key, " must be a list of finite numbers"});
    return all;
}

Scaling scaling_in(const Json& config) {
    Scaling s{reals(config, "mean"), reals(config, "scale")};
    if (s.mean.size() != s.scale.size() || *std::min_element(s.scale.begin(), s.scale.end()) <= 0)
        refuse({"scale must hold a positive number for each of mean"});
    return s;
}

// Labels as Python prints them; bytes in hexadecimal, times as their numbers.
std::vector<std::string> labels_in(const Json& config) {
    const Json& classes = member(config, "classes");
    const Json* type = config.find("labels");
    const bool floats = !type || type->string.compare(0, 5, "float") == 0;
    std::vector<std::string> labels;
    const auto add_number = [&](double number) {
        if (!floats && std::abs(number) > 9007199254740992.0)
            refuse({"a class beyond 2^53 in magnitude; use names for such classes"});
        labels.push_back(floats ? json_number(number) : std::to_string(static_cast<int64_t>(number)));
    };
    for (size_t i = 0; i < classes.ends.size(); ++i) labels.emplace_back(classes.item(i));
    for (const double number : classes.numbers) add_number(number);
    for (const Json& item : classes.items) {
        if (item.kind == Json::Kind::boolean)
            labels.emplace_back(item.boolean ? "True" : "False");
        else if (item.kind == Json::Kind::integer && !type)
            labels.push_back(std::to_string(item.integer));
        else if (item.kind == Json::Kind::integer || item.kind == Json::Kind::number)
            add_number(item.number);
        else
            refuse({"classes must be a list of texts, numbers, or true and false"});
    }
    if (labels.empty()) refuse({"classes must be a list of at least one label"});
    return labels;
}

std::string input_json(const char* kind, size_t size) {
    return std::string(R"({"inputs":[{"name":"x",")") + kind + "\":" + std::to_string(size) + R"(}],"layers":[)";
}
std::string recurrent_json(const NetworkParams& p, const char* name = "rnn") {
    return std::string(R"({"name":")") + name + R"(","type":"recurrent","cell":)" + json_quoted(p.cell) +
           ",\"hidden_size\":" + std::to_string(p.hidden_size) + ",\"num_layers\":" + std::to_string(p.num_layers) +
           (p.bidirectional ? ",\"bidirectional\":true}," : "},");
}
std::string output_json(size_t size, const char* name = "output") {
    return std::string(R"({"name":")") + name + R"(","type":"linear","out_features":)" + std::to_string(size) + "}]}";
}

// Runs body(configuration) and turns what it throws into Errors that name the file.
void read_config(SafetensorsFile& file, const char* kind, const std::function<void(const Json&)>& body) {
    check_format(file, kind);
    file.check_finite();
    const std::string& text = metadata_of(file, "config", "has no configuration");
    try {
        const Json config = parse_json(text);
        if (config.kind != Json::Kind::object) refuse({"expected a JSON object"});
        body(config);
    } catch (const std::exception& error) {
        refuse_file({file.name(), ": its configuration cannot be used: ", error.what()});
    }
}

void check_members(const Json& config, const std::vector<std::string_view>& top,
                   const std::vector<std::string_view>& params) {
    check_known(config, top);
    check_known(member(config, "params"), params);
}

}  // namespace

LabellerFile::LabellerFile(SafetensorsFile opened, LabelsOf what) : network(std::move(opened), {}) {
    const bool tags = what == LabelsOf::steps;
    read_config(network.file, tags ? "sequence_tagger" : "sequence_classifier", [&](const Json& config) {
        if (config.find("tokens")) refuse({"it is of version 0.1; load and save it with this version in Python"});
        std::vector<std::string_view> known = {"cell",      "hidden_size", "num_layers", "embedding_size",
                                               "tokenizer", "epochs",      "batch_size", "lr",
                                               "clip_norm", "seed",        "input",      "verbose"};
        for (const char* name : {"bidirectional", "dropout"})
            if (tags) known.emplace_back(name);
        if (!tags) known.emplace_back("pooling");
        check_members(config, {"params", "classes", "labels", "loss_curve", "vocabulary", "mean", "scale", "features"},
                      known);
        labels = labels_in(config);
        const Json& params = member(config, "params");
        const OptionsReader read(params);
        std::string json, pooling;
        if (const Json* vocabulary = config.find("vocabulary")) {
            if (config.find("mean")) refuse({"it has both a vocabulary and a mean"});
            tokens = TokenTable(*vocabulary);
            size_t width = 0;
            read(required("embedding_size"), width, Size{1});
            json = input_json("ids", tokens.size()) + R"({"name":"embedding","type":"embedding","embedding_dim":)" +
                   std::to_string(width) + "},";
        } else {
            scaling = scaling_in(config);
            json = input_json("size", scaling.size());
        }
        json += recurrent_json(options_in<NetworkParams>(params));
        if (!tags) {
            read(required("pooling"), pooling);
            json += R"({"name":"pool","type":"pool","function":)" + json_quoted(pooling) + "},";
        }
        network.description = read_network(parse_json(json + output_json(labels.size())));
    });
}

AutoregressorFile::AutoregressorFile(SafetensorsFile opened) : network(std::move(opened), {}), head({}, {}) {
    NetworkParams p;
    read_config(network.file, "autoregressor", [&](const Json& config) {
        if (network.file.tensors().count("series"))
            refuse({"it is of version 0.1; load and save it with this version in Python"});
        check_members(config, {"params", "loss_curve", "mean", "scale", "flat", "features"},
                      {"cell", "hidden_size", "num_layers", "num_steps", "epochs", "batch_size", "lr", "clip_norm",
                       "seed", "verbose"});
        scaling = scaling_in(config);
        p = options_in<NetworkParams>(member(config, "params"));
        const std::string output = output_json(scaling.size());
        network.description = read_network(parse_json(input_json("size", scaling.size()) + recurrent_json(p) + output));
        head = NetworkFile(network.file, read_network(parse_json(input_json("size", p.hidden_size) + output)));
        cell_named(p.cell);
    });
    const auto state = [&](const char* name) {
        Buffer buffer;
        const float* values = tensor_values(network.file, name, {p.num_layers, 1, p.hidden_size}, buffer);
        return std::vector<float>(values, values + p.num_layers * p.hidden_size);
    };
    h = state("state.h");
    if (cell_named(p.cell).has_c) c = state("state.c");
}

namespace {

// Numbers in double precision, which files hold as a tensor [rows, 8 * columns] of bytes.
std::vector<double> doubles_in(const SafetensorsFile& file, const char* name, size_t rows, size_t columns) {
    const auto found = file.tensors().find(name);
    if (found == file.tensors().end()) refuse_file({file.name(), ": ", name, " is missing"});
    const TensorView& tensor = found->second;
    if (tensor.dtype != Dtype::i8 || tensor.shape != std::vector<size_t>{rows, 8 * columns})
        refuse_file({file.name(), ": ", name, " is not of type I8 and shape [", rows, ", ", 8 * columns, "]"});
    std::vector<double> values(rows * columns);
    if (!values.empty()) std::memcpy(values.data(), tensor.data, values.size() * sizeof(double));
    if (!std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); }))
        refuse_file({file.name(), ": ", name, " holds NaN or infinity"});
    return values;
}

Horizon horizon_in(const Json& config, const Json& params) {
    Horizon h;
    OptionsReader read(params);
    read(required("horizon"), h.steps, Size{1});
    if (member(params, "season").kind != Json::Kind::null) read(required("season"), h.season, Size{2});
    size_t terms = 0;
    const OptionsReader of_config(config);
    of_config(required("exogenous"), h.exogenous, Size{0});
    of_config(required("terms"), terms, Size{1});
    std::string base;
    of_config(required("base"), base);
    h.base = named<Horizon::Base>("base", base);
    if (h.season == 0 && h.base >= Horizon::Base::season) refuse({"its base is a season, and it has none"});
    if (h.season) h.seasons = terms == h.terms() + 2 ? 2 : 1;
    if (h.terms() != terms) refuse({"terms do not fit its season and exogenous columns"});
    return h;
}

}  // namespace

ForecasterFile::ForecasterFile(SafetensorsFile opened) : network(std::move(opened), {}) {
    read_config(network.file, "forecaster", [&](const Json& config) {
        check_members(config,
                      {"params", "mean", "scale", "flat", "features", "base", "penalty", "logs", "terms", "exogenous",
                       "index", "loss_curve"},
                      {"cell", "hidden_size", "horizon", "season", "log", "interval", "calibration", "num_layers",
                       "num_steps", "epochs", "batch_size", "lr", "clip_norm", "seed", "verbose"});
        const Json& params = member(config, "params");
        const OptionsReader read(params);
        read(required("interval"), interval, Share{});
        read(required("calibration"), calibration, Size{1});
        horizon = horizon_in(config, params);
        scaling = scaling_in(config);
        for (const Json& log : member(config, "logs").items)
            logs.push_back(log.kind == Json::Kind::boolean && log.boolean);
        if (logs.size() != scaling.size()) refuse({"logs must hold true or false for each of mean"});
        const auto p = options_in<NetworkParams>(params);
        network.description = read_network(parse_json(input_json("size", horizon.width()) + recurrent_json(p, "0") +
                                                      output_json(3 * horizon.steps, "1")));
    });
    const auto& tensors = network.file.tensors();
    const auto found = tensors.find("series");
    const size_t columns = scaling.size(), rows = columns * horizon.steps;
    const size_t steps = found == tensors.end() || found->second.shape.empty() ? 0 : found->second.shape[0];
    linear = doubles_in(network.file, "linear", rows, horizon.terms());
    spread = doubles_in(network.file, "spread", columns, horizon.steps);
    scores = doubles_in(network.file, "scores", rows, calibration);
    series = doubles_in(network.file, "series", steps, columns + horizon.exogenous);
    if (steps == 0) refuse_file({network.file.name(), ": the series is empty"});
    for (double& score : scores)
        if (score == -1e300) score = std::nan("");  // files store finite numbers only
}

}  // namespace rnnfast::core
