// Small files of networks for tests, as bytes.
#pragma once

#include "model_files.h"
#include "models/network.h"

namespace rnnfast::tests {

// A file of a kind with the weights of a new network, whose own description it holds if `config` is empty.
inline std::string model_of_network(const std::string& json, const std::string& kind, const std::string& config = "",
                                    std::map<std::string, core::TensorView> tensors = {}) {
    const core::NetworkDescription description = core::read_network(core::parse_json(json));
    const core::Network network(description, 3, core::active());
    for (const core::Parameter* p : network.parameters()) tensors[p->name] = {p->shape, p->value.data(), p->size()};
    return core::safetensors_bytes(tensors,
                                   {{"format", "rnnfast"},
                                    {"format_version", "1"},
                                    {"kind", kind},
                                    {"config", config.empty() ? network.config() : config}},
                                   "bytes");
}

inline std::string network_bytes(const std::string& json) { return model_of_network(json, "network"); }

// Two inputs, a sum, layers with states of several kinds, two outputs of which one is a summary.
const std::string streamed_network =
    R"({"inputs":[{"name":"x","size":3},{"name":"tokens","ids":7}],"layers":[
       {"name":"e","type":"embedding","embedding_dim":3,"inputs":["tokens"]},
       {"name":"c","type":"conv1d","out_channels":3,"kernel_size":3,"before":2,"inputs":["x"]},
       {"name":"sum","type":"add","inputs":["e","c","x"]},
       {"name":"r","type":"recurrent","cell":"lstm","hidden_size":21,"num_layers":2},
       {"name":"d","type":"dropout","p":0.2},
       {"name":"n","type":"layer_norm"},
       {"name":"tags","type":"linear","out_features":2},
       {"name":"p","type":"pool","function":"mean","inputs":["n"]},
       {"name":"class","type":"linear","out_features":4}],"outputs":["tags","class"]})";

// Its sequences cannot be streamed, and become shorter.
const std::string whole_network =
    R"({"inputs":[{"name":"x","size":3}],"layers":[
       {"name":"c","type":"conv1d","out_channels":4,"kernel_size":3},
       {"name":"r","type":"recurrent","cell":"gru","hidden_size":5,"bidirectional":true},
       {"name":"y","type":"linear","out_features":2}]})";

}  // namespace rnnfast::tests
