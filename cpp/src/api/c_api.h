// Shared by the files of the C API: handles that know their kind, exceptions as statuses, copying of results.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "rnnfast/layers.hpp"
#include "rnnfast/network.hpp"
#include "rnnfast/rnnfast.h"
#include "runtime/sentence.h"

namespace rnnfast::c_api {

// A handle starts with its kind, so that a handle of another kind is detected.
enum class Kind : uint64_t {
    model = 0x6c65646f6d666e72u,
    state = 0x6574617473666e72u,
    sampler = 0x656c706d73666e72u,
    recurrent = 0x7275636572666e72u,
    linear = 0x7261656e69666e72u,
    translator = 0x6c736e6172666e72u,
    translations = 0x746c757365666e72u,
    tensors = 0x736e657473666e72u,
    network = 0x7774656e73666e72u,
    network_state = 0x7374656e73666e72u,
    classifier = 0x6c63656e73666e72u,
    autoregressor = 0x6366656e73666e72u,
    tagger = 0x6774656e73666e72u,
    forecaster = 0x6966656e73666e72u,
    freed = 0
};

template <class T, Kind kind>
struct Handle {
    template <class... Arguments>
    explicit Handle(Arguments&&... arguments) : value(std::forward<Arguments>(arguments)...) {}
    ~Handle() { *static_cast<volatile Kind*>(&tag) = Kind::freed; }
    Kind tag = kind;
    T value;
};

// Keeps the message for rnnfast_last_error().
rnnfast_status fail(rnnfast_status status, const char* text);

// The status of the exception that is being handled, whose message it keeps.
rnnfast_status status_of_exception() noexcept;

// Runs body and converts exceptions to a status.
template <class Body>
rnnfast_status guarded(Body body) noexcept {
    try {
        return body();
    } catch (...) {
        return status_of_exception();
    }
}

using core::refuse;
using core::refuse_index;

template <class T, Kind kind>
T& checked(Handle<T, kind>* handle, const char* what) {
    if (!handle) refuse({what, " is NULL: expected a handle from its _new or _load"});
    if (handle->tag != kind) refuse({what, " is a handle of another kind, or was freed"});
    return handle->value;
}

template <class T>
T& given(T* pointer, const char* what) {
    if (!pointer) refuse({what, " is NULL"});
    return *pointer;
}

// Reports that `needed` elements do not fit; *room returns the required number.
rnnfast_status too_small(size_t* room, size_t needed, const char* what);

inline rnnfast_status check_room(size_t room, size_t needed, const char* what) {
    return room >= needed ? RNNFAST_OK : too_small(&room, needed, what);
}

inline size_t product(size_t a, size_t b, const char* what) {
    size_t result;
    if (__builtin_mul_overflow(a, b, &result)) refuse({what, " is too large"});
    return result;
}

Weights precision(int weights);

// Loads a model with the requested precision: load() for that of the file, load(weights) for another.
void check_loadable(int weights);
template <class Load>
auto load_as(int weights, Load load) {
    if (weights == RNNFAST_AS_STORED) return load();
    check_loadable(weights);
    return load(precision(weights));
}

// Copies elements if the capacity suffices. *room: in, the capacity; out, the number of elements.
template <class T>
rnnfast_status give(const T* from, size_t count, T* to, size_t* room, const char* what) {
    if (given(room, "the place for the size") < count || (!to && count)) return too_small(room, count, what);
    if (count) std::memcpy(to, from, count * sizeof(T));
    *room = count;
    return RNNFAST_OK;
}

// Copies a text and its zero if the capacity suffices.
rnnfast_status give_text(const std::string& from, char* text, size_t* size);

}  // namespace rnnfast::c_api

struct rnnfast_model : rnnfast::c_api::Handle<rnnfast::LanguageModel, rnnfast::c_api::Kind::model> {
    using Handle::Handle;
};
struct rnnfast_state : rnnfast::c_api::Handle<rnnfast::State, rnnfast::c_api::Kind::state> {
    using Handle::Handle;
};
struct rnnfast_sampler : rnnfast::c_api::Handle<rnnfast::Sampler, rnnfast::c_api::Kind::sampler> {
    using Handle::Handle;
};
struct rnnfast_tensors : rnnfast::c_api::Handle<rnnfast::Tensors, rnnfast::c_api::Kind::tensors> {
    using Handle::Handle;
};
struct rnnfast_recurrent : rnnfast::c_api::Handle<rnnfast::Recurrent, rnnfast::c_api::Kind::recurrent> {
    using Handle::Handle;
};
struct rnnfast_network_state : rnnfast::c_api::Handle<rnnfast::NetworkState, rnnfast::c_api::Kind::network_state> {
    using Handle::Handle;
};
struct rnnfast_linear : rnnfast::c_api::Handle<rnnfast::Linear, rnnfast::c_api::Kind::linear> {
    using Handle::Handle;
};

namespace rnnfast::c_api {

inline State& checked_state(const rnnfast_state* s) { return checked(const_cast<rnnfast_state*>(s), "state"); }
// The states of a call over several, in memory that grows at the first call of a thread.
State* const* checked_states(rnnfast_state* const* states, size_t count);

}  // namespace rnnfast::c_api
