/*
 * The city on a plane: metres east and north of an origin, by Mercator around it, true to scale
 * within a city. Only numbers.
 */

const EARTH_M = 6378137;
const RADIANS = Math.PI / 180;

const mercator = (lat) => Math.log(Math.tan(Math.PI / 4 + (lat * RADIANS) / 2));

export class Plane {
  constructor(lat, lon) {
    this.lat = lat;
    this.lon = lon;
    this.scale = EARTH_M * Math.cos(lat * RADIANS);
    this.north = mercator(lat);
  }

  x(lon) {
    return (lon - this.lon) * RADIANS * this.scale;
  }

  y(lat) {
    return (mercator(lat) - this.north) * this.scale;
  }
}

/* The smallest box around points that are added one by one. */
export class Box {
  constructor() {
    this.minX = this.minY = Infinity;
    this.maxX = this.maxY = -Infinity;
  }

  get empty() {
    return this.minX > this.maxX;
  }

  add(x, y) {
    if (x < this.minX) this.minX = x;
    if (x > this.maxX) this.maxX = x;
    if (y < this.minY) this.minY = y;
    if (y > this.maxY) this.maxY = y;
  }
}
