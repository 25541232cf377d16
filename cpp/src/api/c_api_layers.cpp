// Tensors and layers in the C API.
#include "api/c_api.h"

using namespace rnnfast::c_api;

namespace {

const rnnfast::Tensors& checked_tensors(const rnnfast_tensors* t) {
    return checked(const_cast<rnnfast_tensors*>(t), "tensors");
}

}  // namespace

rnnfast_status rnnfast_tensors_open(const char* path, rnnfast_tensors** tensors) {
    return guarded([&] {
        given(tensors, "the place for the tensors") = nullptr;
        *tensors = new rnnfast_tensors(rnnfast::Tensors::open(&given(path, "path")));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_tensors_parse(const void* bytes, size_t size, rnnfast_tensors** tensors) {
    return guarded([&] {
        given(tensors, "the place for the tensors") = nullptr;
        *tensors = new rnnfast_tensors(rnnfast::Tensors::parse(bytes, size));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_tensors_count(const rnnfast_tensors* tensors, size_t* count) {
    return guarded([&] {
        given(count, "count") = checked_tensors(tensors).names().size();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_tensors_name(const rnnfast_tensors* tensors, size_t number, char* name, size_t* size) {
    return guarded([&] {
        given(size, "size");
        const auto names = checked_tensors(tensors).names();
        if (number >= names.size())
            refuse_index({"number ", number, ": there are ", names.size(), " tensors, counted from 0"});
        return give_text(names[number], name, size);
    });
}

rnnfast_status rnnfast_tensors_shape(const rnnfast_tensors* tensors, const char* name, size_t* shape,
                                     size_t* dimensions) {
    return guarded([&] {
        const auto found = checked_tensors(tensors).shape(&given(name, "name"));
        return give(found.data(), found.size(), shape, dimensions, "shape");
    });
}

rnnfast_status rnnfast_tensors_values(const rnnfast_tensors* tensors, const char* name, float* values, size_t* count) {
    return guarded([&] {
        const auto found = checked_tensors(tensors).values(&given(name, "name"));
        return give(found.data(), found.size(), values, count, "values");
    });
}

void rnnfast_tensors_free(rnnfast_tensors* tensors) {
    if (tensors && tensors->tag == Kind::tensors) delete tensors;
}

rnnfast_status rnnfast_recurrent_load(const char* path, const char* prefix, const char* cell, int weights,
                                      rnnfast_recurrent** layers) {
    return guarded([&] {
        given(layers, "the place for the layers") = nullptr;
        const auto file = rnnfast::Tensors::open(&given(path, "path"));
        *layers = new rnnfast_recurrent(file, prefix ? prefix : "", &given(cell, "cell"), precision(weights));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_recurrent_new(const rnnfast_tensors* tensors, const char* prefix, const char* cell, int weights,
                                     rnnfast_recurrent** layers) {
    return guarded([&] {
        given(layers, "the place for the layers") = nullptr;
        *layers = new rnnfast_recurrent(checked_tensors(tensors), prefix ? prefix : "", &given(cell, "cell"),
                                        precision(weights));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_recurrent_sizes(const rnnfast_recurrent* layers, size_t* input, size_t* hidden,
                                       size_t* num_layers) {
    return guarded([&] {
        const auto& l = checked(const_cast<rnnfast_recurrent*>(layers), "layers");
        if (input) *input = l.input_size();
        if (hidden) *hidden = l.hidden_size();
        if (num_layers) *num_layers = l.num_layers();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_recurrent_state_new(const rnnfast_recurrent* layers, rnnfast_state** state) {
    return guarded([&] {
        given(state, "the place for the state") = nullptr;
        *state = new rnnfast_state(checked(const_cast<rnnfast_recurrent*>(layers), "layers").initial_state());
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_recurrent_run(const rnnfast_recurrent* layers, const float* x, size_t x_size, size_t steps,
                                     rnnfast_state* state, float* y, size_t y_size) {
    return guarded([&] {
        const auto& l = checked(const_cast<rnnfast_recurrent*>(layers), "layers");
        const size_t wanted = product(steps, l.input_size(), "steps");
        if (x_size != wanted) refuse({"x has ", x_size, " floats, expected ", wanted, " (steps times input)"});
        if (const rnnfast_status room = check_room(y_size, product(steps, l.hidden_size(), "steps"), "y")) return room;
        l.run(x, steps, checked_state(state), y);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_recurrent_step_many(const rnnfast_recurrent* layers, const float* x, size_t x_size,
                                           rnnfast_state* const* states, size_t count, float* y, size_t y_size) {
    return guarded([&] {
        const auto& l = checked(const_cast<rnnfast_recurrent*>(layers), "layers");
        const size_t wanted = product(count, l.input_size(), "count");
        if (x_size != wanted) refuse({"x has ", x_size, " floats, expected ", wanted, " (count times input)"});
        if (const rnnfast_status room = check_room(y_size, product(count, l.hidden_size(), "count"), "y")) return room;
        l.step(x, checked_states(states, count), count, y);
        return RNNFAST_OK;
    });
}

void rnnfast_recurrent_free(rnnfast_recurrent* layers) {
    if (layers && layers->tag == Kind::recurrent) delete layers;
}

rnnfast_status rnnfast_linear_load(const char* path, const char* weight, const char* bias, int weights,
                                   rnnfast_linear** linear) {
    return guarded([&] {
        given(linear, "the place for the layer") = nullptr;
        const auto file = rnnfast::Tensors::open(&given(path, "path"));
        *linear = new rnnfast_linear(file, &given(weight, "weight"), bias ? bias : "", precision(weights));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_linear_new(const rnnfast_tensors* tensors, const char* weight, const char* bias, int weights,
                                  rnnfast_linear** linear) {
    return guarded([&] {
        given(linear, "the place for the layer") = nullptr;
        *linear = new rnnfast_linear(checked_tensors(tensors), &given(weight, "weight"), bias ? bias : "",
                                     precision(weights));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_linear_sizes(const rnnfast_linear* linear, size_t* input, size_t* output) {
    return guarded([&] {
        const auto& l = checked(const_cast<rnnfast_linear*>(linear), "linear");
        if (input) *input = l.in_features();
        if (output) *output = l.out_features();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_linear_run(const rnnfast_linear* linear, const float* x, size_t x_size, size_t rows, float* y,
                                  size_t y_size) {
    return guarded([&] {
        const auto& l = checked(const_cast<rnnfast_linear*>(linear), "linear");
        const size_t wanted = product(rows, l.in_features(), "rows");
        if (x_size != wanted) refuse({"x has ", x_size, " floats, expected ", wanted, " (rows times inputs)"});
        if (const rnnfast_status room = check_room(y_size, product(rows, l.out_features(), "rows"), "y")) return room;
        l.forward(x, y, rows);
        return RNNFAST_OK;
    });
}

void rnnfast_linear_free(rnnfast_linear* linear) {
    if (linear && linear->tag == Kind::linear) delete linear;
}
