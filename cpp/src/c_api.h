// What the files of the C API share: handles that know their kind, exceptions as statuses, room for results.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "rnnfast/error.hpp"
#include "rnnfast/rnnfast.h"
#include "rnnfast/weights.hpp"

namespace rnnfast::c_api {

// A handle starts with its kind, so that one of another kind is noticed.
enum class Kind : uint64_t {
    model = 0x6c65646f6d666e72u,
    state = 0x6574617473666e72u,
    sampler = 0x656c706d73666e72u,
    recurrent = 0x7275636572666e72u,
    linear = 0x7261656e69666e72u,
    translator = 0x6c736e6172666e72u,
    translations = 0x746c757365666e72u,
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

// Keeps the sentence for rnnfast_last_error().
rnnfast_status fail(rnnfast_status status, const char* text);

// Runs body and turns what it throws into a status.
template <class Body>
rnnfast_status guarded(Body body) noexcept {
    try {
        return body();
    } catch (const rnnfast::Error& error) {
        return fail(RNNFAST_BAD_FILE, error.what());
    } catch (const std::out_of_range& error) {
        return fail(RNNFAST_OUT_OF_RANGE, error.what());
    } catch (const std::invalid_argument& error) {
        return fail(RNNFAST_INVALID_ARGUMENT, error.what());
    } catch (const std::bad_alloc&) {
        return fail(RNNFAST_OUT_OF_MEMORY, "out of memory");
    } catch (const std::exception& error) {
        return fail(RNNFAST_FAILED, error.what());
    } catch (...) {
        return fail(RNNFAST_FAILED, "an exception of an unknown type");
    }
}

[[noreturn]] inline void refuse(const std::string& text) { throw std::invalid_argument(text); }

template <class T, Kind kind>
T& checked(Handle<T, kind>* handle, const char* what) {
    if (!handle) refuse(std::string(what) + " is NULL: expected what its _new or _load gave");
    if (handle->tag != kind) refuse(std::string(what) + " is a handle of another kind, or was freed");
    return handle->value;
}

template <class T>
T& given(T* pointer, const char* what) {
    if (!pointer) refuse(std::string(what) + " is NULL");
    return *pointer;
}

// Room for `needed` things; *room tells how many there must be.
inline rnnfast_status too_small(size_t* room, size_t needed, const char* what) {
    const std::string text =
        std::string(what) + " has room for " + std::to_string(*room) + ", " + std::to_string(needed) + " are needed";
    *room = needed;
    return fail(RNNFAST_BUFFER_TOO_SMALL, text.c_str());
}

inline rnnfast_status check_room(size_t room, size_t needed, const char* what) {
    return room >= needed ? RNNFAST_OK : too_small(&room, needed, what);
}

inline size_t product(size_t a, size_t b, const char* what) {
    size_t result;
    if (__builtin_mul_overflow(a, b, &result)) refuse(std::string(what) + " is too large");
    return result;
}

inline Weights precision(int weights) {
    switch (weights) {
        case RNNFAST_F32:
            return Weights::f32;
        case RNNFAST_BF16:
            return Weights::bf16;
        case RNNFAST_INT8:
            return Weights::int8;
        case RNNFAST_AS_STORED:
            break;
    }
    refuse("weights is " + std::to_string(weights) + ": expected RNNFAST_F32, RNNFAST_BF16 or RNNFAST_INT8");
}

// Copies a text and its zero, if there is room.
inline rnnfast_status give_text(const std::string& from, char* text, size_t* size) {
    if (!text || *size < from.size() + 1) return too_small(size, from.size() + 1, "text");
    std::memcpy(text, from.c_str(), from.size() + 1);
    *size = from.size() + 1;
    return RNNFAST_OK;
}

}  // namespace rnnfast::c_api
