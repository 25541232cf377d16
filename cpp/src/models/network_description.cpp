// A network's description from JSON and back.
#include <algorithm>
#include <stdexcept>

#include "models/network.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

struct Head {  // of a layer: what all types have
    std::string name, type;
    template <class Self, class Visit>
    static void fields(Self& o, Visit&& visit) {
        visit(required("name"), o.name);
        visit(required("type"), o.type);
    }
};

struct Rest {  // of a network: what is no list
    Weights weights = Weights::f32;
    uint64_t seed = 0;
    template <class Self, class Visit>
    static void fields(Self& o, Visit&& visit) {
        visit(usual("weights"), o.weights);
        visit(usual("seed"), o.seed, Seed{});
    }
};

constexpr std::string_view head_names[] = {"name", "type", "inputs"}, lists[] = {"inputs", "layers", "outputs"};

// The members of an object that are among the names, or those that are not.
template <size_t Count>
Json members(const Json& object, const std::string_view (&names)[Count], bool among) {
    Json some;
    some.kind = Json::Kind::object;
    for (const auto& member : object.members)
        if ((std::find(names, names + Count, member.first) != names + Count) == among) some.members.push_back(member);
    return some;
}

// The objects of a list that must be there.
const std::vector<Json>& objects(const Json& json, const char* key) {
    const Json* list = json.find(key);
    if (!list || list->kind != Json::Kind::array || list->items.empty())
        refuse({key, " must be a list of at least one object"});
    for (const Json& item : list->items)
        if (item.kind != Json::Kind::object) refuse({key, " must be a list of objects"});
    return list->items;
}

// A list of names; without one, none.
std::vector<std::string> names_of(const Json& json, const char* key) {
    std::vector<std::string> names;
    const Json* list = json.find(key);
    if (list && list->kind != Json::Kind::strings) refuse({key, " must be a list of at least one name"});
    for (size_t i = 0; list && i < list->ends.size(); ++i) names.emplace_back(list->item(i));
    return names;
}

LayerDescription read_layer(const Json& json) {
    LayerDescription layer;
    layer.inputs = names_of(json, "inputs");
    Json head = members(json, head_names, true);
    head.members.erase(std::remove_if(head.members.begin(), head.members.end(),
                                      [](const auto& member) { return member.first == "inputs"; }),
                       head.members.end());
    const auto named = read_options<Head>(head);
    layer.name = named.name;
    layer.type = named.type;
    layer.options = members(json, head_names, false);
    return layer;
}

std::string names_as_json(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ",") + json_quoted(name);
    return "[" + text + "]";
}

// {a} and {b} as {a,b}
std::string joined(const std::string& a, const std::string& b) {
    if (b == "{}") return a;
    return a.substr(0, a.size() - 1) + "," + b.substr(1);
}

}  // namespace

NetworkDescription read_network(const Json& json) {
    if (json.kind != Json::Kind::object) refuse({"the description must be a JSON object"});
    NetworkDescription d;
    const auto rest = read_options<Rest>(members(json, lists, false));
    d.weights = rest.weights;
    d.seed = rest.seed;
    for (const Json& input : objects(json, "inputs")) d.inputs.push_back(read_options<NetworkInput>(input));
    for (const Json& layer : objects(json, "layers")) d.layers.push_back(read_layer(layer));
    d.outputs = names_of(json, "outputs");
    return d;
}

std::string Network::config() const {
    const auto name_of_signal = [&](size_t signal) {
        return signal < inputs_.size() ? inputs_[signal].name : nodes_[signal - inputs_.size()].name;
    };
    std::string inputs, layers;
    for (const NetworkInput& input : inputs_) inputs += (inputs.empty() ? "" : ",") + write_options(input);
    for (const Node& node : nodes_) {
        std::vector<std::string> read;
        for (const size_t signal : node.inputs) read.push_back(name_of_signal(signal));
        const std::string head = write_options(Head{node.name, node.type});
        layers += (layers.empty() ? "" : ",") +
                  joined(joined(head, "{\"inputs\":" + names_as_json(read) + "}"), node.options);
    }
    std::vector<std::string> outputs;
    for (const size_t signal : outputs_) outputs.push_back(name_of_signal(signal));
    return joined(
        "{\"inputs\":[" + inputs + "],\"layers\":[" + layers + "],\"outputs\":" + names_as_json(outputs) + "}",
        write_options(Rest{weights_, seed_}));
}

}  // namespace rnnfast::core
