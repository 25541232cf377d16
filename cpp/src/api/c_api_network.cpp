// Networks in the C API.
#include "api/c_api.h"

using namespace rnnfast::c_api;

struct rnnfast_network : Handle<rnnfast::Network, Kind::network> {
    using Handle::Handle;
};

namespace {

using rnnfast::NetworkData;

const rnnfast::Network& checked_network(const rnnfast_network* n) {
    return checked(const_cast<rnnfast_network*>(n), "network");
}
rnnfast::NetworkState& checked_network_state(const rnnfast_network_state* s) {
    return checked(const_cast<rnnfast_network_state*>(s), "state");
}

template <class All>
const typename All::value_type& numbered(const All& all, size_t number, const char* what) {
    if (number < all.size()) return all[number];
    refuse_index({what, " ", number, ": the network has ", all.size(), ", counted from 0"});
}

void check_count(size_t given, size_t wanted, const char* what) {
    if (given != wanted) refuse({what, " is ", given, ", the network has ", wanted});
}

// What a call reads and writes, in memory that grows at the first call of a thread.
struct Arguments {
    std::vector<NetworkData> inputs;
    std::vector<float*> outputs;
    std::vector<rnnfast::NetworkState*> states;
};
Arguments& arguments() {
    thread_local Arguments all;
    return all;
}

struct Given {  // to a call
    const rnnfast_values* inputs;
    size_t input_count;
    const rnnfast_result* outputs;
    size_t output_count;
};

// places: steps times rows of the inputs. steps_of(i): steps of an output. *status: a capacity that is too small.
template <class StepsOf>
Arguments& checked_arguments(const rnnfast::Network& network, Given g, size_t places, size_t rows, StepsOf steps_of,
                             rnnfast_status* status) {
    Arguments& all = arguments();
    check_count(g.input_count, network.inputs().size(), "input_count");
    check_count(g.output_count, network.outputs().size(), "output_count");
    given(g.inputs, "inputs");
    given(g.outputs, "outputs");
    all.inputs.clear();
    all.outputs.clear();
    for (size_t i = 0; i < g.input_count; ++i) {
        const rnnfast::NetworkInput& input = network.inputs()[i];
        const size_t wanted = product(places, input.ids ? 1 : input.size, "the number of steps");
        if (g.inputs[i].size != wanted)
            refuse({"input ", input.name, " has ", g.inputs[i].size, " values, expected ", wanted});
        NetworkData data(g.inputs[i].x);
        data.ids = g.inputs[i].ids;
        all.inputs.push_back(data);
    }
    for (size_t i = 0; i < g.output_count; ++i) {
        const rnnfast::NetworkOutput& output = network.outputs()[i];
        const size_t needed = product(product(steps_of(i), rows, "the number of rows"), output.width, "an output");
        if (g.outputs[i].y)
            if (const rnnfast_status room = check_room(g.outputs[i].size, needed, output.name.c_str())) *status = room;
        all.outputs.push_back(g.outputs[i].y);
    }
    return all;
}

// Steps of streams, whose outputs all have the steps of the inputs.
Arguments& checked_steps(const rnnfast::Network& network, Given g, size_t steps, size_t rows, rnnfast_status* status) {
    return checked_arguments(
        network, g, product(steps, rows, "the number of steps"), rows, [&](size_t) { return steps; }, status);
}

void take_states(rnnfast_network_state* const* states, size_t count, Arguments& all) {
    if (count) given(states, "states");
    all.states.clear();
    for (size_t i = 0; i < count; ++i) all.states.push_back(&checked_network_state(states[i]));
}

}  // namespace

rnnfast_status rnnfast_network_load(const char* path, int weights, rnnfast_network** network) {
    return guarded([&] {
        given(network, "the place for the network") = nullptr;
        const std::string name = &given(path, "path");
        *network =
            new rnnfast_network(load_as(weights, [&](auto... as) { return rnnfast::Network::load(name, as...); }));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_load_memory(const void* bytes, size_t size, int weights, rnnfast_network** network) {
    return guarded([&] {
        given(network, "the place for the network") = nullptr;
        *network = new rnnfast_network(
            load_as(weights, [&](auto... as) { return rnnfast::Network::load(bytes, size, as...); }));
        return RNNFAST_OK;
    });
}

void rnnfast_network_free(rnnfast_network* network) {
    if (network && network->tag == Kind::network) delete network;
}

rnnfast_status rnnfast_network_weights(const rnnfast_network* network, int* weights) {
    return guarded([&] {
        given(weights, "weights") = static_cast<int>(checked_network(network).weights());
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_counts(const rnnfast_network* network, size_t* inputs, size_t* outputs) {
    return guarded([&] {
        const auto& n = checked_network(network);
        if (inputs) *inputs = n.inputs().size();
        if (outputs) *outputs = n.outputs().size();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_input(const rnnfast_network* network, size_t number, size_t* size, size_t* ids) {
    return guarded([&] {
        const auto& input = numbered(checked_network(network).inputs(), number, "input");
        if (size) *size = input.size;
        if (ids) *ids = input.ids;
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_output(const rnnfast_network* network, size_t number, size_t* width, int* summary) {
    return guarded([&] {
        const auto& output = numbered(checked_network(network).outputs(), number, "output");
        if (width) *width = output.width;
        if (summary) *summary = output.summary;
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_input_name(const rnnfast_network* network, size_t number, char* name, size_t* size) {
    return guarded([&] {
        given(size, "size");
        return give_text(numbered(checked_network(network).inputs(), number, "input").name, name, size);
    });
}

rnnfast_status rnnfast_network_output_name(const rnnfast_network* network, size_t number, char* name, size_t* size) {
    return guarded([&] {
        given(size, "size");
        return give_text(numbered(checked_network(network).outputs(), number, "output").name, name, size);
    });
}

rnnfast_status rnnfast_network_output_steps(const rnnfast_network* network, size_t number, size_t steps,
                                            size_t* output_steps) {
    return guarded([&] {
        given(output_steps, "output_steps") = checked_network(network).output_steps(number, steps);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_run(const rnnfast_network* network, const rnnfast_values* inputs, size_t input_count,
                                   const rnnfast_batch* batch, const rnnfast_result* outputs, size_t output_count) {
    return guarded([&] {
        const auto& n = checked_network(network);
        const rnnfast_batch& b = given(batch, "batch");
        rnnfast_status status = RNNFAST_OK;
        const Arguments& all = checked_arguments(
            n, {inputs, input_count, outputs, output_count}, product(b.steps, b.rows, "the number of steps"), b.rows,
            [&](size_t i) { return n.output_steps(i, b.steps); }, &status);
        if (status == RNNFAST_OK) n.run(all.inputs.data(), {b.steps, b.rows, b.lengths}, all.outputs.data());
        return status;
    });
}

rnnfast_status rnnfast_network_no_stream(const rnnfast_network* network, char* sentence, size_t* size) {
    return guarded([&] {
        given(size, "size");
        return give_text(checked_network(network).no_stream(), sentence, size);
    });
}

rnnfast_status rnnfast_network_state_bytes(const rnnfast_network* network, size_t* size) {
    return guarded([&] {
        given(size, "size") = checked_network(network).saved_size();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_state_new(const rnnfast_network* network, rnnfast_network_state** state) {
    return guarded([&] {
        given(state, "the place for the state") = nullptr;
        *state = new rnnfast_network_state(checked_network(network).initial_state());
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_state_copy(const rnnfast_network_state* from, rnnfast_network_state** state) {
    return guarded([&] {
        given(state, "the place for the state") = nullptr;
        *state = new rnnfast_network_state(static_cast<const rnnfast::NetworkState&>(checked_network_state(from)));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_state_reset(rnnfast_network_state* state) {
    return guarded([&] {
        checked_network_state(state).reset();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_state_reserve(rnnfast_network_state* state) {
    return guarded([&] {
        checked_network_state(state).reserve();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_state_save(const rnnfast_network_state* state, void* bytes, size_t* size) {
    return guarded([&] {
        const auto& s = checked_network_state(state);
        const size_t needed = s.saved_size();
        if (given(size, "the place for the size") < needed || !bytes) return too_small(size, needed, "bytes");
        s.save(bytes, *size);
        *size = needed;
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_state_restore(rnnfast_network_state* state, const void* bytes, size_t size) {
    return guarded([&] {
        checked_network_state(state).restore(bytes, size);
        return RNNFAST_OK;
    });
}

void rnnfast_network_state_free(rnnfast_network_state* state) {
    if (state && state->tag == Kind::network_state) delete state;
}

rnnfast_status rnnfast_network_step(const rnnfast_network* network, const rnnfast_values* inputs, size_t input_count,
                                    rnnfast_network_state* state, const rnnfast_result* outputs, size_t output_count) {
    return guarded([&] {
        const auto& n = checked_network(network);
        auto& s = checked_network_state(state);
        rnnfast_status status = RNNFAST_OK;
        const Arguments& all = checked_steps(n, {inputs, input_count, outputs, output_count}, 1, 1, &status);
        if (status == RNNFAST_OK) n.step(all.inputs.data(), s, all.outputs.data());
        return status;
    });
}

rnnfast_status rnnfast_network_step_many(const rnnfast_network* network, const rnnfast_values* inputs,
                                         size_t input_count, rnnfast_network_state* const* states, size_t count,
                                         const rnnfast_result* outputs, size_t output_count) {
    return guarded([&] {
        const auto& n = checked_network(network);
        rnnfast_status status = RNNFAST_OK;
        Arguments& all = checked_steps(n, {inputs, input_count, outputs, output_count}, 1, count, &status);
        take_states(states, count, all);
        if (status == RNNFAST_OK) n.step(all.inputs.data(), all.states.data(), count, all.outputs.data());
        return status;
    });
}

rnnfast_status rnnfast_network_prefault(const rnnfast_network* network, rnnfast_network_state* const* states,
                                        size_t count) {
    return guarded([&] {
        const auto& n = checked_network(network);
        Arguments& all = arguments();
        all.inputs.reserve(n.inputs().size());
        all.outputs.reserve(n.outputs().size());
        take_states(states, count, all);
        n.prefault(all.states.data(), count);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_network_read(const rnnfast_network* network, const rnnfast_values* inputs, size_t input_count,
                                    size_t steps, rnnfast_network_state* state, const rnnfast_result* outputs,
                                    size_t output_count) {
    return guarded([&] {
        const auto& n = checked_network(network);
        auto& s = checked_network_state(state);
        rnnfast_status status = RNNFAST_OK;
        const Arguments& all = checked_steps(n, {inputs, input_count, outputs, output_count}, steps, 1, &status);
        if (status == RNNFAST_OK) n.read(all.inputs.data(), steps, s, all.outputs.data());
        return status;
    });
}
