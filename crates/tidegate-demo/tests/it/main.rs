//! The demo server through its public surface: pipes for stdio, loopback sockets for HTTP.

#[cfg(test)]
mod http_legacy;
#[cfg(test)]
mod http_modern;
#[cfg(test)]
mod pipe;
#[cfg(test)]
mod stdio_legacy;
#[cfg(test)]
mod stdio_modern;
#[cfg(test)]
mod web;
