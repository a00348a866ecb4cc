//! The book: what people ask for, what follows, and that its rows hold all of it.

mod against;
mod anew;
mod book;
mod emergency;
mod escalating;
mod fixture;
mod freezing;
mod histories;
mod kept;
mod reaching;
mod told;
