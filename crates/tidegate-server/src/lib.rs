//! Face clients: listeners, the HTTP front for both eras, ops endpoints, drain.
