// A page with interactive surfaces (rotate, hover) and an animation of curves with paths on them: one HTML
// file, plain JavaScript on a canvas, no external resources.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lpf/io/atomic_file.hpp"
#include "lpf/report/log.hpp"
#include "lpf/report/method_color.hpp"
#include "lpf/report/svg_canvas.hpp"

namespace lpf {

/// A surface over x and y: heights [y, x], and points of a path on it.
struct PageSurface {
  std::string name;  ///< label of its button
  std::vector<double> x, y, height;
  std::vector<std::array<double, 2>> path = {};
  std::string method = {};  ///< whose path it is: in the method's colour
};

/// One frame of an animation: a curve, and one or more points on it.
struct PageFrame {
  std::string label;
  std::vector<double> y;                   ///< of the curve, one per x of the animation
  std::vector<std::vector<double>> paths;  ///< each optimizer's positions so far, in x
};
struct PageAnimation {
  std::vector<double> x;
  std::vector<double> ghost;       ///< the static curve: the function itself
  std::vector<std::string> names;  ///< of the paths; a method's is in its colour
  std::vector<PageFrame> frames;
};

class SurfacePage {
 public:
  /// `lead`: the result, in a sentence or two.
  SurfacePage(std::string title, std::string command, std::string lead = "")
      : title_(std::move(title)), command_(std::move(command)), lead_(std::move(lead)) {}

  /// A figure that displays one surface at a time. ShapeError for heights of the wrong size.
  SurfacePage& surfaces(std::string_view heading, std::string_view words,
                        const std::vector<PageSurface>& all) {
    Json data = Json::array();
    for (const PageSurface& s : all) {
      check<ShapeError>(s.x.size() >= 2 && s.y.size() >= 2 && s.height.size() == s.x.size() * s.y.size(),
                        "SurfacePage", "'", s.name, "' has ", s.height.size(), " heights over ", s.x.size(),
                        " x ", s.y.size(), " points");
      std::vector<double> path;
      for (const auto& p : s.path) path.insert(path.end(), p.begin(), p.end());
      data.push_back({{"name", s.name},
                      {"x", list(s.x)},
                      {"y", list(s.y)},
                      {"z", list(s.height)},
                      {"path", list(path)},
                      {"color", color_of(s.method)}});
    }
    return figure(heading, words, "surfaces", data);
  }

  /// A figure that plays the frames.
  SurfacePage& animation(std::string_view heading, std::string_view words, const PageAnimation& a) {
    Json frames = Json::array();
    for (const PageFrame& f : a.frames) {
      check<ShapeError>(f.y.size() == a.x.size() && f.paths.size() == a.names.size(), "SurfacePage",
                        "frame '", f.label, "' has ", f.y.size(), " values for ", a.x.size(), " x, and ",
                        f.paths.size(), " paths for ", a.names.size(), " names");
      Json paths = Json::array();
      for (const auto& p : f.paths) paths.push_back(list(p));
      frames.push_back({{"label", f.label}, {"y", list(f.y)}, {"paths", std::move(paths)}});
    }
    Json colors = Json::array();
    for (const std::string& name : a.names) colors.push_back(color_of(name));
    return figure(heading, words, "animation",
                  {{"x", list(a.x)},
                   {"ghost", list(a.ghost)},
                   {"names", a.names},
                   {"colors", std::move(colors)},
                   {"frames", std::move(frames)}});
  }

  std::string to_string() const {
    const std::string title = plot::detail::escape(title_);
    return concat(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
        "'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>",
        title, "</title>\n<style>", style(), "</style></head>\n<body><main>\n<h1>", title, "</h1>\n",
        lead_.empty() ? "" : concat("<p class=\"lead\">", plot::detail::escape(lead_), "</p>\n"), body_,
        "<footer>Made by <code>", plot::detail::escape(command_), "</code></footer></main>\n<script>\n",
        script(), calls_, "</script></body></html>\n");
  }
  /// Writes the page atomically; throws IOError.
  void write(const std::string& path) const { write_file_atomically(path, to_string()); }

 private:
  using Json = lpf::detail::Json;

  /// A figure that the script's `function` draws from `data`.
  SurfacePage& figure(std::string_view heading, std::string_view words, std::string_view function,
                      const Json& data) {
    body_ += concat("<h2>", plot::detail::escape(heading), "</h2>\n<p>", plot::detail::escape(words),
                    "</p>\n<div class=\"figure\" id=\"f", figures_,
                    "\"><div class=\"bar\"></div><canvas></canvas><p class=\"say\">&nbsp;</p></div>\n");
    std::string text;  // the JSON, with '<' escaped: it could end the enclosing script element
    for (const char c : lpf::detail::json_text(data)) c == '<' ? text += "\\u003c" : text += c;
    calls_ += concat(function, "(\"f", figures_++, "\",", text, ");\n");
    return *this;
  }
  /// A method's colour in light and in dark mode; the ink's for another name.
  static Json color_of(std::string_view method) {
    const int color = plot::method_color(method);
    const plot::detail::Color c =
        color < 0 ? plot::detail::ink : plot::detail::palette[color % plot::detail::palette_size];
    return Json::array({std::string(c.light), std::string(c.dark)});
  }
  /// Numbers with six digits, more than a screen resolves; NaN and infinities are null.
  static Json list(const std::vector<double>& values) {
    Json out = Json::array();
    for (const double v : values)
      out.push_back(std::isfinite(v) ? Json::parse(format_general(v, 6)) : Json());
    return out;
  }

  static std::string style() {
    return R"(
:root{--paper:#fff;--ink:#1d242b;--soft:#56616c;--rule:#a5b0bb;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--paper:#14191e;--ink:#e8ecf0;--soft:#a5b0bb;--rule:#56616c}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:52rem;margin:0 auto;padding:2rem 1.25rem}
h1{line-height:1.2}h2{margin-top:2.5rem}
canvas{width:100%;touch-action:pan-y;display:block;border:1px solid var(--rule);border-radius:6px}
.bar{display:flex;flex-wrap:wrap;gap:.4rem;margin-bottom:.5rem;align-items:center}
.bar input{flex:1;min-width:6rem}
button{font:inherit;padding:.15rem .7rem;border:1px solid var(--rule);border-radius:4px;background:var(--paper);color:inherit}
button[aria-pressed=true]{background:#1c56be;color:#fff}
.lead{font-size:1.15rem;color:var(--soft)}
.say,footer{color:var(--soft);font-size:.9rem;overflow-wrap:anywhere}
)";
  }

  static std::string script() {
    return R"JS('use strict';
const stops=[[68,1,84],[71,44,122],[59,81,139],[44,113,142],[33,144,141],[39,173,129],[92,200,99],[170,220,50],[253,231,37]];
function viridis(t,light){const p=Math.min(Math.max(t,0),1)*8,i=Math.min(7,Math.floor(p));
  return 'rgb('+[0,1,2].map(c=>Math.round(light*(stops[i][c]+(p-i)*(stops[i+1][c]-stops[i][c])))).join(',')+')';}
const dark=window.matchMedia('(prefers-color-scheme: dark)'),still=window.matchMedia('(prefers-reduced-motion: reduce)');
const tone=name=>getComputedStyle(document.documentElement).getPropertyValue('--'+name).trim();
const short=v=>{const a=Math.abs(v);return v===0?'0':a>=1e4||a<1e-3?v.toExponential(1):String(+v.toPrecision(3));};
function redraw(draw){window.addEventListener('resize',draw);dark.addEventListener('change',draw);draw();}
function parts(id){const e=document.getElementById(id),canvas=e.querySelector('canvas');
  return {bar:e.querySelector('.bar'),canvas,say:e.querySelector('.say'),g:canvas.getContext('2d')};}
function size(f,ratio){const w=f.canvas.clientWidth,d=window.devicePixelRatio||1;
  f.canvas.width=w*d;f.canvas.height=w*ratio*d;f.g.setTransform(d,0,0,d,0,0);return [w,w*ratio];}
function button(f,name,act){const b=document.createElement('button');b.textContent=name;b.onclick=act;f.bar.append(b);return b;}

function surfaces(id,all){
  const f=parts(id);let shown=0,turn=.6,tilt=.9,zoom=1,drag=null,log=true,spots=[];
  let least=Infinity,most=-Infinity;
  for(const s of all)for(const v of s.z)if(v!==null){least=Math.min(least,v);most=Math.max(most,v);}
  const buttons=all.map((s,k)=>button(f,s.name,()=>{shown=k;draw();}));
  const scale=button(f,'logarithmic height',()=>{log=!log;draw();});
  const closer=by=>{zoom=Math.min(4,Math.max(.4,zoom*by));draw();};
  button(f,'+',()=>closer(1.25)).setAttribute('aria-label','nearer');
  button(f,'−',()=>closer(.8)).setAttribute('aria-label','farther');
  const hint='Drag to turn, + and − (or Ctrl and the wheel) to come nearer, hover to read. The ring is the least loss shown.';
  const height=v=>log?Math.log(Math.max(v??most,1e-6)):v??most;
  const low=()=>height(least),high=()=>height(most);
  function draw(){
    buttons.forEach((b,k)=>b.setAttribute('aria-pressed',k===shown));scale.setAttribute('aria-pressed',log);
    const [w,h]=size(f,.75),s=all[shown],nx=s.x.length,ny=s.y.length,lo=low(),span=Math.max(high()-lo,1e-12),g=f.g;
    g.clearRect(0,0,w,h);
    const project=(x,y,z)=>{x-=.5;y-=.5;z=.7*(z-.5);
      const u=Math.cos(turn)*x-Math.sin(turn)*y,v=Math.sin(turn)*x+Math.cos(turn)*y,
        up=v*Math.cos(tilt)+z*Math.sin(tilt),depth=z*Math.cos(tilt)-v*Math.sin(tilt),k=3/(3-depth)*zoom*.48*h;
      return [w/2+k*u,h/2-k*up,depth];};
    const place=(i,j)=>project(i/(nx-1),j/(ny-1),(height(s.z[j*nx+i])-lo)/span);
    const p=[];for(let j=0;j<ny;j++)for(let i=0;i<nx;i++)p.push(place(i,j));
    spots=p;
    const squares=[];
    for(let j=0;j+1<ny;j++)for(let i=0;i+1<nx;i++){const k=j*nx+i;
      squares.push([p[k][2]+p[k+1][2]+p[k+nx][2]+p[k+nx+1][2],k]);}
    squares.sort((a,b)=>a[0]-b[0]);
    for(const [,k] of squares){
      const z=[k,k+1,k+nx+1,k+nx].map(q=>(height(s.z[q])-lo)/span);
      const dx=.35*(z[1]+z[2]-z[0]-z[3])*(nx-1),dy=.35*(z[2]+z[3]-z[0]-z[1])*(ny-1);
      const light=.45+.55*Math.max(0,(dx-dy+2)/Math.sqrt(6*(dx*dx+dy*dy+1)));
      g.beginPath();[k,k+1,k+nx+1,k+nx].forEach((q,n)=>n?g.lineTo(p[q][0],p[q][1]):g.moveTo(p[q][0],p[q][1]));
      g.closePath();g.fillStyle=g.strokeStyle=viridis((z[0]+z[1]+z[2]+z[3])/4,light);g.fill();g.stroke();}
    axes(g,s,project);
    const at=s.z.reduce((b,v,k)=>v!==null&&(b<0||v<s.z[b])?k:b,-1);
    if(at>=0){const q=p[at];g.beginPath();g.arc(q[0],q[1],6,0,7);g.lineWidth=4;g.strokeStyle='#000';g.stroke();
      g.lineWidth=2;g.strokeStyle='#fff';g.stroke();g.lineWidth=1;
      g.fillStyle=tone('ink');g.textAlign='left';g.fillText('least loss '+short(s.z[at]),10,h-10);}
    colours(g,w,h);
    if(s.path.length){g.beginPath();
      for(let i=0;i<s.path.length;i+=2){
        const a=(s.path[i]-s.x[0])/(s.x[nx-1]-s.x[0]),b=(s.path[i+1]-s.y[0])/(s.y[ny-1]-s.y[0]);
        const ci=Math.min(nx-1,Math.max(0,Math.round(a*(nx-1)))),cj=Math.min(ny-1,Math.max(0,Math.round(b*(ny-1))));
        const q=project(a,b,(height(s.z[cj*nx+ci])-lo)/span+.02);
        i?g.lineTo(q[0],q[1]):g.moveTo(q[0],q[1]);}
      g.lineJoin='round';g.strokeStyle=tone('paper');g.lineWidth=6;g.stroke();  // an edge, to be seen on every height
      g.strokeStyle=s.color[+dark.matches];g.lineWidth=2.5;g.stroke();g.lineWidth=1;}
  }
  // Three edges of the box: x and y along the floor, the loss upwards, with the numbers at their ends.
  function axes(g,s,project){
    g.strokeStyle=tone('rule');g.fillStyle=tone('ink');g.font='12px system-ui,sans-serif';g.textAlign='center';
    const edge=(a,b,from,to,name)=>{const p=project(...a),q=project(...b);
      g.beginPath();g.moveTo(p[0],p[1]);g.lineTo(q[0],q[1]);g.stroke();
      const at=(t,text)=>g.fillText(text,p[0]+t*(q[0]-p[0]),p[1]+t*(q[1]-p[1])+16);  // of two edges no end has two
      at(.06,short(from));at(.94,short(to));at(.5,name);};
    edge([0,0,0],[1,0,0],s.x[0],s.x[s.x.length-1],'x');edge([1,0,0],[1,1,0],s.y[0],s.y[s.y.length-1],'y');}
  // The colours with their losses: one scale for all surfaces of the figure.
  function colours(g,w,h){
    const top=16,long=Math.min(200,.5*h),wide=12,left=w-wide-12;
    for(let i=0;i<long;++i){g.fillStyle=viridis(1-i/long,1);g.fillRect(left,top+i,wide,1.5);}
    g.strokeStyle=tone('rule');g.strokeRect(left,top,wide,long);
    g.fillStyle=tone('ink');g.font='12px system-ui,sans-serif';g.textAlign='right';
    const of=t=>log?Math.exp(low()+t*(high()-low())):low()+t*(high()-low());
    for(let i=0;i<=4;++i)g.fillText(short(of(1-i/4)),left-6,top+long*i/4+4);
    g.fillText('loss',left-6,top+long+20);g.textAlign='left';}
  f.canvas.onpointerdown=e=>{drag=[e.clientX,e.clientY];f.canvas.setPointerCapture(e.pointerId);};
  f.canvas.onpointerup=()=>{drag=null;};
  f.canvas.onwheel=e=>{if(e.ctrlKey){e.preventDefault();closer(Math.exp(-e.deltaY*.001));}};
  f.canvas.onpointermove=e=>{
    if(drag){turn+=(e.clientX-drag[0])*.01;tilt=Math.min(1.57,Math.max(0,tilt+(drag[1]-e.clientY)*.006));
      drag=[e.clientX,e.clientY];draw();return;}
    const r=f.canvas.getBoundingClientRect(),x=e.clientX-r.left,y=e.clientY-r.top;let best=-1,near=400;
    spots.forEach((q,k)=>{const d=(q[0]-x)**2+(q[1]-y)**2-q[2];if(d<near){near=d;best=k;}});
    const s=all[shown],n=s.x.length;
    f.say.textContent=best<0?hint:
      'x '+s.x[best%n]+', y '+s.y[Math.floor(best/n)]+': loss '+s.z[best];};
  f.say.textContent=hint;redraw(draw);
}

function animation(id,a){
  const f=parts(id);let k=0,playing=!still.matches;
  const play=button(f,playing?'pause':'play',()=>{playing=!playing;play.textContent=playing?'pause':'play';});
  const slider=document.createElement('input');slider.type='range';slider.min=0;slider.max=a.frames.length-1;slider.value=0;
  slider.setAttribute('aria-label','moment');
  slider.oninput=()=>{playing=false;play.textContent='play';k=+slider.value;draw();};f.bar.append(slider);
  const every=a.ghost.concat(...a.frames.map(m=>m.y)),lo=Math.min(...every),hi=Math.max(...every);
  function draw(){
    const [w,h]=size(f,.5),g=f.g,m=a.frames[k],x0=a.x[0],x1=a.x[a.x.length-1];
    const X=x=>20+(w-40)*(x-x0)/(x1-x0),Y=y=>h-30-(h-60)*(y-lo)/(hi-lo);
    const value=(ys,x)=>{const p=(x-x0)/(x1-x0)*(a.x.length-1),i=Math.max(0,Math.min(a.x.length-2,Math.floor(p)));
      return ys[i]+(p-i)*(ys[i+1]-ys[i]);};
    const line=ys=>{g.beginPath();a.x.forEach((x,i)=>i?g.lineTo(X(x),Y(ys[i])):g.moveTo(X(x),Y(ys[i])));g.stroke();};
    g.clearRect(0,0,w,h);g.lineWidth=1.5;g.strokeStyle=tone('rule');line(a.ghost);
    g.lineWidth=2.5;g.strokeStyle=tone('ink');line(m.y);
    g.font='14px system-ui,sans-serif';
    m.paths.forEach((path,n)=>{g.fillStyle=g.strokeStyle=a.colors[n][+dark.matches];g.lineWidth=1;
      path.slice(-25).forEach((x,i,all)=>{g.globalAlpha=(i+1)/all.length*(i+1===all.length?1:.5);
        g.beginPath();g.arc(X(x),Y(value(a.ghost,x))-7,i+1===all.length?7:3,0,7);g.fill();});
      g.globalAlpha=1;g.fillText(a.names[n],.45*w,24+20*n);});
    f.say.textContent=m.label;slider.value=k;
  }
  setInterval(()=>{if(playing){k=(k+1)%a.frames.length;draw();}},120);
  redraw(draw);
}
)JS";
  }

  std::string title_, command_, lead_, body_, calls_;
  std::size_t figures_ = 0;
};

}  // namespace lpf
